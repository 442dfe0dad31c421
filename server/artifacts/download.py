"""The bytes of an artifact over HTTP: ranges, validators, names (RFC 9110 sections 8.8, 13, 14)."""

from __future__ import annotations

import re
from urllib.parse import quote

from fastapi.responses import RedirectResponse, Response, StreamingResponse

from acamkd_core.spec.api import ArtifactInfo
from acamkd_core.spec.errors import ErrorInfo
from server.errors import problem_response
from server.storage import Storage

# Only what a browser cannot be talked into running: a picture. Everything else is an attachment of plain bytes.
INLINE_TYPES = {"png": "image/png"}
MEDIA_TYPES = {"zip": "application/zip", "json": "application/json", "png": "image/png"}
_RANGE = re.compile(r"bytes=(\d*)-(\d*)")


def disposition(name: str, *, inline: bool) -> str:
    """Content-Disposition with a plain and an encoded file name; path separators and quotes never pass."""
    plain = re.sub(r"[^A-Za-z0-9._-]", "_", name.rpartition("/")[2]) or "download"
    encoded = quote(name.rpartition("/")[2], safe="")
    return f"{'inline' if inline else 'attachment'}; filename=\"{plain}\"; filename*=UTF-8''{encoded}"


def parse_range(header: str, size: int) -> tuple[int, int] | None:
    """`bytes=a-b` as [start, end). None: not a single byte range, so the whole file is sent (RFC 9110 14.2).

    Raises:
        ValueError: the range lies outside the file.
    """
    match = _RANGE.fullmatch(header.strip())
    if match is None or match.group(0) == "bytes=-":
        return None
    first, last = match.groups()
    if not first:
        if int(last) == 0 or size == 0:
            raise ValueError("empty suffix")
        return max(0, size - int(last)), size
    start = int(first)
    end = min(int(last) + 1, size) if last else size
    if last and int(last) < start:
        return None
    if start >= size:
        raise ValueError("starts after the end")
    return start, end


def answer(
    artifact: ArtifactInfo,
    *,
    blobs: Storage,
    inline: bool,
    byte_range: str | None,
    if_none_match: str | None,
    if_range: str | None,
) -> Response:
    """The response to a download request. Raises CoreError `storage.missing` when the blob is gone."""
    shown = inline and artifact.format in INLINE_TYPES
    etag = f'"{artifact.sha256}"'
    headers = {
        "ETag": etag,
        "Accept-Ranges": "bytes",
        "Content-Disposition": disposition(artifact.name, inline=shown),
        "Cache-Control": "private, max-age=31536000, immutable",  # an id always names the same bytes
    }
    if if_none_match is not None and (if_none_match.strip() == "*" or etag in if_none_match.replace("W/", "")):
        return Response(status_code=304, headers=headers)
    if not shown and (url := blobs.presigned_url(artifact.sha256, filename=artifact.name)) is not None:
        return RedirectResponse(url, status_code=307, headers={"Cache-Control": "no-store"})
    part: tuple[int, int] | None = None
    if byte_range is not None and (if_range is None or if_range.strip() == etag):
        try:
            part = parse_range(byte_range, artifact.bytes)
        except ValueError:
            info = ErrorInfo(
                code="artifact.range", message=f"the file has {artifact.bytes} bytes", value=byte_range[:100]
            )
            return problem_response(416, info, headers={"Content-Range": f"bytes */{artifact.bytes}"})
    start, end = part or (0, artifact.bytes)
    headers["Content-Length"] = str(end - start)
    if part is not None:
        headers["Content-Range"] = f"bytes {start}-{end - 1}/{artifact.bytes}"
    return StreamingResponse(
        blobs.open_range(artifact.sha256, start, end),
        status_code=200 if part is None else 206,
        headers=headers,
        media_type=MEDIA_TYPES.get(artifact.format, "application/octet-stream"),
    )
