"""Reading a file that another process is still writing: whole lines only, by byte offset."""

from __future__ import annotations

from pathlib import Path

_MOST = 4 * 1024 * 1024


class Tail:
    """Follows one file. A partial last line is left for the next look (and for ever, if its writer died)."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.offset = 0

    def lines(self) -> list[bytes]:
        """Complete lines since the last call, at most 4 MiB of them; a longer single line is cut there."""
        try:
            with self.path.open("rb") as file:
                file.seek(self.offset)
                data = file.read(_MOST)
        except FileNotFoundError:
            return []
        end = data.rfind(b"\n") + 1
        if end == 0:
            if len(data) < _MOST:
                return []
            end = len(data)
        self.offset += end
        return data[:end].splitlines()
