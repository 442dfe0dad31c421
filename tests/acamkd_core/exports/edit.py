"""Exported files with other metadata than their network was exported with."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import onnx


def edited(model: Path, folder: Path, change: Callable[[dict[str, Any]], None]) -> Path:
    """A copy of an exported file in `folder`, its metadata changed in place by `change`."""
    proto = onnx.load(model)
    (entry,) = [prop for prop in proto.metadata_props if prop.key == "acamkd"]
    data = json.loads(entry.value)
    change(data)
    entry.value = json.dumps(data)
    onnx.save(proto, folder / "edited.onnx")
    return folder / "edited.onnx"
