"""A teacher that is a program (`.pt2`): the only place that loads one, which runs its code."""

from __future__ import annotations

import json
import logging
import zipfile
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from io import BufferedReader
from typing import Any

import torch
from torch import Tensor
from torch.export import ExportedProgram
from torch.export.passes import move_to_device_pass

from acamkd_core.graph_plan import Size
from acamkd_core.memory import is_out_of_memory
from acamkd_core.program_file import require_digest, sha256_of
from acamkd_core.program_plan import ProgramPlan
from acamkd_core.spec.errors import CoreError
from acamkd_core.spec.problems import SHOWN

FIELD = "teacher.weights"
_AGAIN = f"export it with torch {torch.__version__}, which runs it here: torch.export.save (docs/teachers.md)"


class ProgramRuntime:
    """A program on the run's device.

    Args:
        plan: of a file that `program_file.allowed_program` has let through; it is loaded only if its digest is the plan's.
        device: where it runs; a program that was exported elsewhere is moved.

    Raises:
        CoreError: `pt2.other_digest`, `pt2.unreadable`, `pt2.input`, `pt2.fixed_batch`, `pt2.cannot_run`.
    """

    name = "torch.export"

    def __init__(self, plan: ProgramPlan, device: torch.device) -> None:
        self.plan, self.device = plan, device
        program = _load(plan)
        image = _image(program, plan.name)
        self.dtype = image.dtype
        height, width = (side if isinstance(side, int) else None for side in image.shape[2:])
        self.size: Size | None = (height, width) if height is not None and width is not None else None
        self.parameters = sum(one.numel() for one in program.parameters())
        try:
            # Also what the export has written into the graph itself: `torch.arange(..., device="cuda")`.
            self.module = move_to_device_pass(program, device).module().requires_grad_(False)
        except Exception as error:  # a program can raise what it likes
            raise self._broken(error, f"on {device}") from None

    @property
    def on_gpu(self) -> bool:
        """Whether it runs on a GPU."""
        return self.device.type == "cuda"

    def __call__(self, images: Tensor, tensors: list[str]) -> dict[str, Tensor]:
        """Normalised images N3HW to these of its outputs, fp32.

        Raises:
            CoreError: `pt2.cannot_run` with the program's own words, `pt2.no_output`.
        """
        # Programs check the layout and type that they were exported with: no channels-last images, and no autocast.
        batch = images.to(self.device, self.dtype).contiguous()
        try:
            # Not inference mode: autograd refuses to save its tensors for the student's backward pass.
            with torch.no_grad(), torch.autocast(self.device.type, enabled=False):
                found = dict(named_outputs(self.module(batch)))
        except Exception as error:
            if is_out_of_memory(error):
                raise  # the run goes on with smaller batches
            shape = "x".join(str(size) for size in batch.shape)
            raise self._broken(error, f"on images of {shape}") from None
        for name in tensors:
            if name not in found or not found[name].is_floating_point():
                raise self._no_output(name, found)
        return {name: found[name].float() for name in tensors}

    def _no_output(self, name: str, found: dict[str, Tensor]) -> CoreError:
        shown = [
            f"{one} ({'x'.join(str(size) for size in value.shape)}{'' if value.is_floating_point() else f' {value.dtype}'})"
            for one, value in found.items()
        ]
        return CoreError(
            "pt2.no_output", f"{self.plan.name} has no output {name!r} of floating-point numbers",
            hint=f"its outputs are {', '.join(shown[:SHOWN])}",
            field=f"teacher.pt2.{'raw' if name == self.plan.raw else 'features'}", value=name,
        )  # fmt: skip

    def _broken(self, error: Exception, where: str) -> CoreError:
        return CoreError("pt2.cannot_run", f"{self.plan.name} does not run {where}", hint=_words(error), field=FIELD)


def named_outputs(value: Any, name: str = "") -> Iterator[tuple[str, Tensor]]:
    """What a program returned, by position or key; `.` stands between the names of what lies in one another.

    One tensor alone is `0`. What is no tensor is left out.
    """
    if isinstance(value, Tensor):
        yield name or "0", value
        return
    items = (
        value.items() if isinstance(value, Mapping) else enumerate(value) if isinstance(value, (list, tuple)) else ()
    )
    for key, one in items:
        yield from named_outputs(one, f"{name}.{key}" if name else str(key))


def _load(plan: ProgramPlan) -> ExportedProgram:
    """What was hashed is what is loaded: both read one open file."""
    try:
        with plan.path.open("rb") as file:
            require_digest(plan.name, sha256_of(file), plan.sha256)
            made_by = _require_archive(file, plan.name)
            file.seek(0)
            with _own_words():
                return torch.export.load(file)
    except CoreError:
        raise
    except OSError as error:
        raise CoreError("pt2.unreadable", f"{plan.name} cannot be read: {error.strerror}", field=FIELD) from None
    except Exception as error:  # what is in the file decides what is raised
        raise CoreError(
            "pt2.unreadable", f"torch {torch.__version__} cannot load {plan.name}, which torch {made_by} has written",
            hint=f"{_AGAIN}; {_words(error)}", field=FIELD, value=made_by,
        ) from None  # fmt: skip


def _require_archive(file: BufferedReader, name: str) -> str:
    """The version of torch that wrote an archive of torch.export; refuses everything else before it is loaded."""
    file.seek(0)
    try:
        with zipfile.ZipFile(file) as archive:
            names = archive.namelist()
            form = next((one for one in names if one.endswith("/archive_format")), None)
            model = next((one for one in names if one.endswith("/models/model.json")), None)
            if form is not None and model is not None and archive.read(form) == b"pt2":
                return str(json.loads(archive.read(model)).get("torch_version") or "of another version")
    except (zipfile.BadZipFile, ValueError, AttributeError, NotImplementedError, RuntimeError):
        pass
    raise CoreError(
        "pt2.unreadable", f"{name} is no program of torch.export: TorchScript, state dicts and compiled packages are none",
        hint=_AGAIN, field=FIELD, value=name,
    )  # fmt: skip


@contextmanager
def _own_words() -> Iterator[None]:
    """Raises what torch.export only logs before it says to look into the log, and keeps its traceback out of that."""
    log, heard = logging.getLogger("torch.export"), _Hearing()
    log.addFilter(heard)
    try:
        yield
    except Exception as error:
        raise (heard.error or error) from None
    finally:
        log.removeFilter(heard)


class _Hearing(logging.Filter):
    """Lets nothing through, and remembers the last exception."""

    error: Exception | None = None

    def filter(self, record: logging.LogRecord) -> bool:
        if record.exc_info and isinstance(record.exc_info[1], Exception):
            self.error = record.exc_info[1]
        return False


def _image(program: ExportedProgram, name: str) -> Tensor:
    """The only input as the program declares it: a tensor without values, whose dynamic sides are symbols.

    Raises:
        CoreError: `pt2.input`, `pt2.fixed_batch`.
    """
    inputs = program.graph_signature.user_inputs
    values = [node.meta.get("val") for node in program.graph.nodes if node.op == "placeholder" and node.name in inputs]
    image = values[0] if len(values) == 1 == len(inputs) else None
    if not isinstance(image, Tensor) or image.dim() != 4 or image.shape[1] != 3 or not image.is_floating_point():
        raise CoreError(
            "pt2.input", f"{name} does not take images: one floating-point tensor, N x 3 x H x W",
            hint="export a module whose forward(images) takes nothing else (docs/teachers.md)", field=FIELD,
            value=", ".join(str(tuple(one.shape)) if isinstance(one, Tensor) else str(one) for one in values),
        )  # fmt: skip
    if isinstance(image.shape[0], int):
        raise CoreError(
            "pt2.fixed_batch", f"{name} takes batches of {image.shape[0]} only",
            hint="torch.export.export(..., dynamic_shapes=({0: torch.export.Dim('batch')},)) from two images or more",
            field=FIELD, value=image.shape[0],
        )  # fmt: skip
    return image


def _words(error: Exception) -> str:
    return f"{type(error).__name__}: {' '.join(str(error).split())}"[:300]
