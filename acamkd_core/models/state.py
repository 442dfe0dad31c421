"""Tensors in files: reading without executing anything, the digest, and the native format."""

from __future__ import annotations

import hashlib
import pickle
from collections.abc import Mapping
from pathlib import Path

import safetensors
import safetensors.torch
import torch
from torch import Tensor, nn

from acamkd_core.native_file import write_native
from acamkd_core.spec.errors import CoreError
from acamkd_core.spec.native import NativeHeader

StateDict = dict[str, Tensor]

_WRAPPERS = ("state_dict", "model", "model_state", "student", "network")  # common keys around the tensors


def read_state(path: str | Path) -> StateDict:
    """All tensors of a safetensors or PyTorch file, by name, on the CPU. The kind is told by content, not by suffix.

    Raises:
        CoreError: `weights.missing_file`; `weights.unsafe_pickle` when the file would execute code or holds objects
            that are not tensors; `weights.unreadable` when damaged; `weights.no_tensors`.
    """
    path = Path(path)
    try:
        with path.open("rb") as file:
            magic = file.read(2)
    except FileNotFoundError:
        raise CoreError("weights.missing_file", f"no weights file at {path.name}", value=str(path)) from None
    except OSError as error:
        raise CoreError("weights.unreadable", f"{path.name} cannot be read: {error.strerror}") from None
    if magic == b"PK" or magic[:1] == b"\x80":
        return _tensors(_read_torch(path), path.name)
    try:
        state: StateDict = safetensors.torch.load_file(path)
    except (safetensors.SafetensorError, ValueError, KeyError) as error:
        raise CoreError(
            "weights.unreadable",
            f"{path.name} is neither a whole safetensors file nor a PyTorch file",
            hint=str(error)[:200],
        ) from None
    return _tensors(state, path.name)


def _read_torch(path: Path) -> object:
    try:
        content: object = torch.load(path, map_location="cpu", weights_only=True)
        return content
    except pickle.UnpicklingError as error:
        reason = str(error)
    except RuntimeError as error:
        if "TorchScript" not in str(error):
            raise _damaged(path.name, error) from None
        reason = "it is a TorchScript program"
    except Exception as error:
        # Whatever its unpickler trips over in a damaged file, assertions and struct.error among it: the file is at fault.
        raise _damaged(path.name, error) from None
    culprit = next((line.strip() for line in reason.splitlines() if "nsupported" in line), reason.splitlines()[0])
    raise CoreError(
        "weights.unsafe_pickle",
        f"{path.name} holds Python objects and not only tensors; it was not loaded, because that could execute code",
        hint=f"save the bare state dict, best as safetensors. {culprit[:200]}",
    )


def _damaged(name: str, error: Exception) -> CoreError:
    return CoreError("weights.unreadable", f"{name} is damaged or incomplete", hint=str(error).split("\n")[0][:200])


def _tensors(content: object, name: str) -> StateDict:
    for _ in range(3):  # a few levels of {"state_dict": {...}}
        if isinstance(content, Mapping):
            found = {str(key): value for key, value in content.items() if isinstance(value, Tensor)}
            if odd := [name for name, value in found.items() if not _is_plain(value)]:
                raise CoreError(
                    "weights.unreadable",
                    f"{name} holds tensors that are no plain numbers",
                    hint=f"{odd[0]} is sparse, quantised or without data; save it dense, in floating point",
                )
            if found:
                return found
            content = next((content[key] for key in _WRAPPERS if key in content), None)
    raise CoreError("weights.no_tensors", f"{name} holds no named tensors")


def _is_plain(tensor: Tensor) -> bool:
    return tensor.layout == torch.strided and not (tensor.is_meta or tensor.is_quantized or tensor.is_nested)


def weights_digest(state: Mapping[str, Tensor]) -> str:
    """SHA-256 (hex) over sorted names, dtypes, shapes and bytes: the identity of weights, whatever file holds them."""
    digest = hashlib.sha256()
    for name in sorted(state):
        tensor = state[name].detach().cpu().contiguous()
        digest.update(f"{name}\0{tensor.dtype}\0{tuple(tensor.shape)}\0".encode())
        digest.update(tensor.reshape(-1).view(torch.uint8).numpy().data)
    return digest.hexdigest()


def save_native(model: nn.Module, path: str | Path, header: NativeHeader) -> str:
    """Writes `model` as a native file (safetensors plus header), whole or not at all; returns the weights digest."""
    state = model.state_dict()
    write_native(Path(path), state, header)
    return weights_digest(state)
