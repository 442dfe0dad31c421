"""`events.jsonl`: one event a line, appended and flushed, so that a reader may tail it and a crash tears one line at most."""

from __future__ import annotations

from pathlib import Path

from acamkd_core.spec.events import AnyEvent


class EventsFile:
    """Callable that appends events to a file."""

    def __init__(self, path: Path) -> None:
        path.parent.mkdir(parents=True, exist_ok=True)
        self._file = open(path, "ab", buffering=0)  # noqa: SIM115 - lives as long as the run

    def __call__(self, event: AnyEvent) -> None:
        # One unbuffered write: a line is in the kernel before the next step starts, even if we are killed then.
        self._file.write(event.model_dump_json().encode() + b"\n")

    def close(self) -> None:
        """Closes the file."""
        self._file.close()
