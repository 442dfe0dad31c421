"""What a server killed in the middle of an upload leaves behind: half a zip, or a folder that no dataset names."""

from __future__ import annotations

import re
import shutil
import time
from pathlib import Path

import structlog
from sqlalchemy import Engine

from server.datasets import repository
from server.db.session import read_session

log = structlog.get_logger("datasets.leftovers")

SPARED_HOURS = 24.0  # an upload may still be coming in: another server process shares the folder
# Only what uploads make themselves; an operator's own folders in here are none of our business.
_OURS = re.compile(r"\.incoming-.+\.zip|.+-[0-9a-f]{8}-[0-9a-f]{4}-7[0-9a-f]{3}-[89ab][0-9a-f]{3}-[0-9a-f]{12}")


def sweep_leftovers(engine: Engine, folder: Path, *, hours: float = SPARED_HOURS) -> list[str]:
    """Deletes them once they are old enough; returns their names."""
    if not folder.is_dir():
        return []
    old = [
        path
        for path in folder.iterdir()
        if _OURS.fullmatch(path.name) and time.time() - path.lstat().st_mtime >= hours * 3600
    ]
    if not old:
        return []
    with read_session(engine) as session:
        roots = [Path(root) for root in repository.all_roots(session)]
    gone = []
    for path in old:
        if any(root.is_relative_to(path) for root in roots):
            continue
        if path.is_dir() and not path.is_symlink():
            shutil.rmtree(path, ignore_errors=True)
        else:
            path.unlink(missing_ok=True)
        gone.append(path.name)
    if gone:
        log.info("leftovers of uploads deleted", names=sorted(gone))
    return sorted(gone)
