"""Unpacking a zip from a stranger: limits first, then files, in a folder aside; a refusal leaves nothing behind.

The archive's own directory is checked as a whole before a byte is written; the bytes are then counted again while
they are written, because a directory can lie.
"""

from __future__ import annotations

import contextlib
import errno
import os
import re
import shutil
import stat
import struct
import zipfile
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import IO

from acamkd_core.spec.errors import CoreError

CHUNK = 1 << 20
SPARE_BYTES = 256 * 1024 * 1024  # left free for the database beside
MAX_PATH = 240
MAX_DEPTH = 12
_END_RECORD = 22
# What desktops leave beside the files: never part of a dataset, and next to its folder it would hide that there is only one.
DESKTOP_FILES = frozenset({".DS_Store", "Thumbs.db", "desktop.ini"})


@dataclass(frozen=True)
class Limits:
    """How much an archive may unfold to."""

    files: int
    unpacked_bytes: int
    ratio: float


def _refuse(code: str, message: str, value: object = None) -> CoreError:
    return CoreError(f"upload.{code}", message, field="file", value=value)


def safe_path(name: str) -> PurePosixPath:
    """A member's path below the target folder.

    Raises:
        CoreError: `upload.path` for absolute paths, `..`, drives, backslashes, control characters, excessive length.
    """
    shown = name[:120].encode("ascii", "backslashreplace").decode()
    path = PurePosixPath(name)
    bad = (
        not name
        or name.startswith("/")
        or "\\" in name
        or ":" in name
        or any(ord(character) < 32 or ord(character) == 127 for character in name)
        or any(part in ("..", ".") for part in name.rstrip("/").split("/"))
        or not path.parts
        or len(name) > MAX_PATH
        or len(path.parts) > MAX_DEPTH
    )
    if bad:
        raise _refuse("path", f"the archive holds a path that is not allowed: {shown}", shown)
    return path


def _check_member(info: zipfile.ZipInfo) -> PurePosixPath:
    mode = info.external_attr >> 16
    kind = stat.S_IFMT(mode)
    if kind not in (0, stat.S_IFREG, stat.S_IFDIR):
        raise _refuse("link", f"links and special files are refused: {info.filename[:120]!r}")
    if info.flag_bits & 0x1:
        raise _refuse("encrypted", "encrypted archives are refused")
    if info.compress_type not in (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED):
        raise _refuse("compression", "only stored and deflated members are read")
    return safe_path(info.filename)


def members_at_most(file: IO[bytes]) -> int:
    """An upper bound of a zip's members, found without holding its directory (APPNOTE.TXT 4.3.12 to 4.3.16).

    zipfile makes an object of every member before anybody can count them: gigabytes, if the archive is one long
    directory of nothing. Every reading of the end record that it could choose counts here.
    """
    end = file.seek(0, os.SEEK_END)
    tail_at = max(0, end - _END_RECORD - 65_535)
    file.seek(tail_at)
    tail = file.read()
    most = 0
    for match in re.finditer(b"(?=PK\x05\x06)", tail):
        record = tail[match.start() : match.start() + _END_RECORD]
        if len(record) < _END_RECORD:
            continue
        (size,) = struct.unpack_from("<L", record, 12)
        directory_end = tail_at + match.start()
        file.seek(max(0, directory_end - 76))
        wide = file.read(min(76, directory_end))  # the 64-bit record and its locator, where there are any
        if len(wide) == 76 and wide.startswith(b"PK\x06\x06") and wide[56:60] == b"PK\x06\x07":
            (size,) = struct.unpack_from("<Q", wide, 40)
            directory_end -= 76
        most = max(most, _entries(file, max(0, directory_end - size), directory_end))
    return most


def _entries(file: IO[bytes], start: int, end: int) -> int:
    count, overlap = 0, b""
    file.seek(start)
    while start < end and (chunk := file.read(min(CHUNK, end - start))):
        start += len(chunk)
        count += (overlap + chunk).count(b"PK\x01\x02")
        overlap = chunk[-3:]
    return count


def check_directory(
    archive: zipfile.ZipFile, packed: int, limits: Limits
) -> list[tuple[zipfile.ZipInfo, PurePosixPath]]:
    """The members to write, after all limits have been checked on the archive's directory."""
    infos = archive.infolist()
    if len(infos) > limits.files:
        raise _refuse("too_many_files", f"the archive has {len(infos)} members, at most {limits.files} are read")
    total = sum(info.file_size for info in infos)
    if total > limits.unpacked_bytes:
        raise _refuse("too_large", f"the archive unfolds to {total} bytes, at most {limits.unpacked_bytes} are read")
    if total > limits.ratio * max(packed, 1):
        raise _refuse("ratio", f"the archive unfolds to {total / max(packed, 1):.0f} times its size")
    files: list[tuple[zipfile.ZipInfo, PurePosixPath]] = []
    seen: set[PurePosixPath] = set()
    for info in infos:
        path = _check_member(info)
        if info.is_dir() or path.parts[0] == "__MACOSX" or path.name in DESKTOP_FILES:
            continue
        if path in seen:
            raise _refuse("twice", f"the archive holds {str(path)!r} twice")
        seen.add(path)
        files.append((info, path))
    for path in seen:
        if any(parent in seen for parent in path.parents):
            raise _refuse("path", f"{str(path)!r} lies below a file")
    if not files:
        raise _refuse("empty", "the archive holds no files")
    return files


def _write(archive: zipfile.ZipFile, info: zipfile.ZipInfo, target: Path, budget: int) -> int:
    written = 0
    target.parent.mkdir(parents=True, exist_ok=True)
    with archive.open(info) as source, target.open("xb") as file:
        while chunk := source.read(CHUNK):
            written += len(chunk)
            if written > info.file_size or written > budget:
                raise _refuse("lies", f"{info.filename[:120]!r} is larger than the archive says")
            file.write(chunk)
    return written


def _check_count(source: IO[bytes] | Path, limits: Limits) -> None:
    with contextlib.ExitStack() as stack:
        file = stack.enter_context(source.open("rb")) if isinstance(source, Path) else source
        if members_at_most(file) > limits.files:
            raise _refuse("too_many_files", f"the archive has more than {limits.files} members")
        file.seek(0)


def unpack(source: IO[bytes] | Path, target: Path, *, packed: int, limits: Limits) -> Path:
    """Unpacks into the new folder `target` and returns the dataset's folder (a single top folder is stepped into).

    Raises:
        CoreError: `upload.*`; `target` does not exist then.
    """
    try:
        _check_count(source, limits)
        with zipfile.ZipFile(source) as archive:
            files = check_directory(archive, packed, limits)
            need = sum(info.file_size for info, _ in files)
            target.parent.mkdir(parents=True, exist_ok=True)
            if shutil.disk_usage(target.parent).free < need + SPARE_BYTES:
                raise _refuse("disk_full", "there is not enough free space for the unpacked archive")
            target.mkdir()
            budget = limits.unpacked_bytes
            for info, path in files:
                budget -= _write(archive, info, target / path, budget)
        top = list(target.iterdir())
        return top[0] if len(top) == 1 and top[0].is_dir() and top[0].name != "images" else target
    except BaseException as error:
        shutil.rmtree(target, ignore_errors=True)
        if isinstance(error, (zipfile.BadZipFile, zipfile.LargeZipFile, EOFError, NotImplementedError, UnicodeError)):
            raise _refuse("not_a_zip", f"the archive cannot be read: {error}") from None
        if isinstance(error, OSError) and error.errno in (errno.ENOSPC, errno.EDQUOT):
            raise _refuse("disk_full", "the disk is full; nothing was kept") from None
        if type(error).__name__ == "error" and type(error).__module__ == "zlib":
            raise _refuse("not_a_zip", f"the archive is damaged: {error}") from None
        raise
