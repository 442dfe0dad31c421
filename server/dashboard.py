"""The built dashboard, where there is one. Its pages have addresses of their own: what is no file is index.html."""

from __future__ import annotations

from pathlib import Path

from fastapi import FastAPI, Request
from fastapi.responses import FileResponse, JSONResponse, Response

from acamkd_core.spec.errors import ErrorInfo
from server.errors import problem_response


def mount(app: FastAPI, folder: Path) -> None:
    """Serves `folder` for everything that no API route took. Without a build, `/` says how to make one."""
    root = folder.resolve()

    @app.get("/{path:path}", include_in_schema=False)
    def dashboard(path: str, request: Request) -> Response:
        if path == "api" or path.startswith("api/"):
            return problem_response(404, ErrorInfo(code="route.not_found", message=f"there is no /{path}"))
        index = root / "index.html"
        if not index.is_file():
            if path:
                return problem_response(404, ErrorInfo(code="route.not_found", message=f"there is no /{path}"))
            return JSONResponse({"acamkd": "the API is at /api/v1", "dashboard": "not built: run `make dashboard`"})
        file = (root / path).resolve()
        if path and file.is_relative_to(root) and file.is_file():
            # Vite puts a digest of the content into the names under assets/: they never change.
            age = "public, max-age=31536000, immutable" if path.startswith("assets/") else "no-cache"
            return FileResponse(file, headers={"cache-control": age})
        if "." in path.rpartition("/")[2] and path.startswith("assets/"):
            return problem_response(404, ErrorInfo(code="route.not_found", message=f"there is no /{path}"))
        return FileResponse(index, headers={"cache-control": "no-cache"})
