"""No file of the project says on whose machine it was made."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
# Home folders with a name, and temporary files; documentation may say /home/you, containers have /data.
PERSONAL = re.compile(r"(?<![\w.~$}/])(/home/(?!you\b|user\b)[a-z]\w*/|/Users/(?!you\b)\w+/|/root/\w|[A-Z]:\\Users\\)")
OWN = Path(__file__).name


def tracked() -> list[Path]:
    if shutil.which("git") is None or not (ROOT / ".git").exists():
        pytest.skip("not a git checkout")
    listed = subprocess.run(["git", "ls-files", "-z"], cwd=ROOT, capture_output=True, text=True, check=True).stdout
    return [ROOT / name for name in listed.split("\0") if name and (ROOT / name).is_file()]


def test_no_file_holds_a_path_of_a_developer_s_machine() -> None:
    files = tracked()
    assert len(files) > 100
    here = [re.escape(str(path)) for path in {ROOT, Path(os.path.realpath(ROOT))} if len(path.parts) > 2]
    patterns = [PERSONAL, *(re.compile(rf"(?<![\w.]){path}(?![\w-])") for path in here)]
    found = []
    for path in files:
        if path.name == OWN:
            continue
        text = path.read_bytes().decode("utf-8", errors="replace")
        found += [f"{path.relative_to(ROOT)}: {match[0]!r}" for one in patterns for match in one.finditer(text)]
    assert not found


def test_lock_files_and_settings_name_no_private_registry() -> None:
    """Packages come from wherever the installing machine is configured to fetch them."""
    public = {"registry.npmjs.org", "pypi.org", "download.pytorch.org", "files.pythonhosted.org"}
    names = ("package-lock.json", ".npmrc", "constraints.txt", "pyproject.toml", "Dockerfile", "Makefile", "setup.py")
    for path in tracked():
        if path.name not in names:
            continue
        text = path.read_text()
        resolved = re.findall(r'"resolved": "https?://([^/"]+)', text)
        indexes = re.findall(r"(?:index-url|registry|find-links)[= ]+https?://([^/\s]+)", text)
        assert {*resolved, *indexes} <= public, path.name
