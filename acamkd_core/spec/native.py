"""The header of a native weights file: all that is needed to rebuild its network. Readable without torch.

A native file is a safetensors file whose metadata holds one JSON object under the key `acamkd`.
"""

from __future__ import annotations

import json
import struct
from pathlib import Path
from typing import Any, Literal

from pydantic import Field, ValidationError

from acamkd_core.spec.archs import Arch
from acamkd_core.spec.base import SpecModel
from acamkd_core.spec.errors import CoreError
from acamkd_core.spec.models import Preprocess

METADATA_KEY = "acamkd"
_MAX_HEADER_BYTES = 100_000_000  # the safetensors format's own limit


class NativeHeader(SpecModel):
    """What a network is, beside its tensors."""

    format_version: Literal[1] = Field(default=1, description="Version of this header.")
    task: str = Field(default="semantic_segmentation", description="Task that the network was trained for.")
    arch: Arch = Field(description="Architecture.")
    num_classes: int = Field(ge=2, description="Number of classes.")
    class_names: tuple[str, ...] = Field(default=(), description="Names, by class id; may be empty.")
    preprocess: Preprocess = Field(default_factory=Preprocess, description="What the network's input looks like.")
    extra: dict[str, Any] = Field(default_factory=dict, description="Free facts: metrics, spec digest, versions.")


def read_native_header(path: str | Path) -> NativeHeader | None:
    """The header of a native file; None where the file is something else (foreign safetensors, a .pth).

    Raises:
        CoreError: `weights.missing_file`, or `weights.unreadable` for a native header that is damaged or too new.
    """
    path = Path(path)
    try:
        with path.open("rb") as file:
            start = file.read(8)
            size = struct.unpack("<Q", start)[0] if len(start) == 8 else 0
            # A zip (.pth) or a pickle read as a length is astronomically large.
            if not 2 <= size <= min(_MAX_HEADER_BYTES, max(path.stat().st_size - 8, 0)):
                return None
            header = json.loads(file.read(size))
    except FileNotFoundError:
        raise CoreError("weights.missing_file", f"no weights file at {path.name}", value=str(path)) from None
    except OSError as error:
        raise CoreError("weights.unreadable", f"{path.name} cannot be read: {error.strerror}") from None
    except ValueError:
        return None
    metadata = header.get("__metadata__") if isinstance(header, dict) else None
    if not isinstance(metadata, dict) or METADATA_KEY not in metadata:
        return None
    try:
        return NativeHeader.model_validate_json(metadata[METADATA_KEY])
    except ValidationError as error:
        raise CoreError(
            "weights.unreadable",
            f"the header of {path.name} does not describe a known network",
            hint=f"written by another version? {error.errors(include_url=False)[0]['msg']}",
        ) from None


def arch_from_file(path: str | Path) -> Arch:
    """The architecture that a native file carries.

    Raises:
        CoreError: `weights.no_architecture` where the file carries none, so the spec has to name it.
    """
    header = read_native_header(path)
    if header is None:
        raise CoreError(
            "weights.no_architecture",
            f"{Path(path).name} does not say which network it belongs to",
            hint="name it in the spec with `arch`",
            field="arch",
        )
    return header.arch
