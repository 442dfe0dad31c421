"""Native weights files for those parts that must not import the networks: same file as `models.state.save_native`.

The format is `acamkd_core.spec.native`: safetensors, with a `NativeHeader` as the metadata entry `acamkd`.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING

from acamkd_core.spec.native import METADATA_KEY, NativeHeader

if TYPE_CHECKING:
    from torch import Tensor


def write_native(path: Path, tensors: Mapping[str, Tensor], header: NativeHeader) -> None:
    """Write tensors (any device) and header, whole or not at all. Equal inputs give equal bytes."""
    from safetensors.torch import save

    stored = {name: tensor.detach().cpu().contiguous() for name, tensor in sorted(tensors.items())}
    aside = path.with_name(path.name + ".part")
    aside.write_bytes(save(stored, metadata={METADATA_KEY: header.model_dump_json()}))
    aside.replace(path)
