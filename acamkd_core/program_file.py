"""Whether a program (`.pt2`, torch.export) may run here, and which file it is. Torch-free: nothing of it is read but its bytes.

Loading such a file runs pickles and Python code that are in it, so all that can be done is to choose who may have put it
there: an administrator, into folders that he has listed.
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from io import BufferedReader
from pathlib import Path

from acamkd_core.spec.errors import CoreError

SUFFIX = ".pt2"


def allowed_program(file: str, roots: Sequence[Path] | None, *, field: str = "teacher.weights") -> Path:
    """The program at `file`, links followed, if it lies in one of the folders that may hold programs.

    Args:
        file: an absolute path, or one that is looked up in every folder.
        roots: those folders; None: it may lie anywhere (one's own machine).

    Raises:
        CoreError: `pt2.off` where there is no such folder, `path.invalid`, `path.outside_roots`, `path.missing`, and
            `pt2.other_file` for a link to something else than a program; with the field.
    """
    if roots is not None and not roots:
        raise CoreError(
            "pt2.off", "no folder is set up from which programs may run",
            hint="an administrator of server and workers lists folders in ACAMKD_CODE_ROOTS (acamkd up --code DIR)",
            field=field, value=file,
        )  # fmt: skip
    if "\0" in file or not file.strip():
        raise CoreError("path.invalid", "not a path", field=field, value=file.replace("\0", "?"))
    try:
        given = Path(file).expanduser()
        candidates = [root / given for root in roots] if roots is not None and not given.is_absolute() else [given]
        resolved = [one.resolve() for one in candidates]
        folders = None if roots is None else [root.resolve() for root in roots]
    except (OSError, RuntimeError, ValueError):
        raise CoreError("path.invalid", "not a path", field=field, value=file) from None
    hint = None if roots is None else f"folders for programs: {', '.join(str(root) for root in roots)}"
    allowed = [one for one in resolved if folders is None or any(one.is_relative_to(root) for root in folders)]
    if not allowed:
        raise CoreError(
            "path.outside_roots",
            "the program lies outside the folders for programs",
            hint=hint,
            field=field,
            value=file,
        )
    found = next((one for one in allowed if one.is_file()), None)
    if found is None:
        raise CoreError("path.missing", "there is no such program", hint=hint, field=field, value=file)
    if found.suffix.lower() != SUFFIX:
        raise CoreError("pt2.other_file", "the name leads to a file that is no .pt2", field=field, value=file)
    return found


def sha256_of(file: BufferedReader) -> str:
    """Digest of a file from where it stands, in hexadecimal digits."""
    return hashlib.file_digest(file, "sha256").hexdigest()


def digest_of(path: Path, wanted: str | None, *, field: str = "teacher.weights") -> str:
    """The digest of a program.

    Raises:
        CoreError: `pt2.unreadable`; `pt2.other_digest` where it is not the wanted one.
    """
    try:
        with path.open("rb") as file:
            found = sha256_of(file)
    except OSError as error:
        raise CoreError("pt2.unreadable", f"{path.name} cannot be read: {error.strerror}", field=field) from None
    require_digest(path.name, found, wanted)
    return found


def require_digest(name: str, found: str, wanted: str | None) -> None:
    """Refuses a program that is not the one that was asked for. Raises CoreError `pt2.other_digest`."""
    if wanted is not None and found != wanted:
        raise CoreError(
            "pt2.other_digest", f"{name} is not the program that the job names: its sha256 is {found}",
            hint="the file has changed; leave teacher.pt2.sha256 out to take it as it is", field="teacher.pt2.sha256",
            value=wanted,
        )  # fmt: skip
