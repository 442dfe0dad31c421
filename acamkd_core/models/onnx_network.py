"""A teacher in an ONNX file, run by onnxruntime: named levels like every network, no gradient, no tensors of ours."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import onnxruntime
import torch
from torch import Tensor, nn

from acamkd_core.models.anchors import clip_each
from acamkd_core.models.base import Detector, Foreign, Level, ModelOutput, Normalise, Selection, TaskModel
from acamkd_core.onnx_file import parse
from acamkd_core.onnx_plan import BOX_OUTPUTS, LOGITS, OnnxPlan, Size, stride_of
from acamkd_core.spec.errors import CoreError
from acamkd_core.spec.models import Preprocess


class OnnxRuntime:
    """A graph with exactly the wanted tensors as outputs.

    Args:
        path: a file that `onnx_file.read_onnx` has accepted.
        plan: which tensors are wanted.
        device: where results go; CUDA runs there when this onnxruntime can, else on the CPU.

    Raises:
        CoreError: `onnx.cannot_run`.
    """

    def __init__(self, path: Path, plan: OnnxPlan, device: torch.device) -> None:
        import onnx

        self.plan, self.device = plan, device
        model = parse(path.read_bytes(), plan.file.name)
        # Inner tensors become outputs, and what nobody wants is not computed: an upsampling, or a detector's decoding.
        known = {value.name: value for value in model.graph.output}
        wanted = [known.get(name) or onnx.ValueInfoProto(name=name) for name in plan.tensors]
        del model.graph.output[:]
        model.graph.output.extend(wanted)
        options = onnxruntime.SessionOptions()
        options.log_severity_level = 3
        options.intra_op_num_threads = torch.get_num_threads()
        # Between two calls the student trains on the same cores; a resume has to give the same numbers.
        options.add_session_config_entry("session.intra_op.allow_spinning", "0")
        options.use_deterministic_compute = True
        try:
            self.session = onnxruntime.InferenceSession(
                model.SerializeToString(), options, providers=providers(device, onnxruntime.get_available_providers())
            )
        except Exception as error:  # onnxruntime's errors have no base of their own
            raise self._broken(error) from None
        self.half = plan.file.image.kind == "FLOAT16"

    @property
    def on_gpu(self) -> bool:
        """Whether the graph itself runs on a GPU."""
        return "CUDAExecutionProvider" in self.session.get_providers()

    def __call__(self, images: Tensor, tensors: list[str]) -> dict[str, Tensor]:
        """Normalised images N3HW to these of the wanted tensors, fp32 on `device`.

        Raises:
            CoreError: `onnx.cannot_run`, with onnxruntime's own words.
        """
        batch = images.detach().to("cpu", torch.float16 if self.half else torch.float32).contiguous().numpy()
        try:
            found = self.session.run(tensors, {self.plan.file.input: batch})
        except Exception as error:
            raise self._broken(error, batch.shape) from None
        arrays = dict(zip(tensors, found, strict=True))
        return {name: torch.from_numpy(np.asarray(one)).to(self.device).float() for name, one in arrays.items()}

    def _broken(self, error: Exception, shape: tuple[int, ...] | None = None) -> CoreError:
        at = f" on images of {'x'.join(str(size) for size in shape)}" if shape else ""
        return CoreError(
            "onnx.cannot_run",
            f"onnxruntime cannot run {self.plan.file.name}{at}",
            hint=" ".join(str(error).split())[:300],
            field="teacher.weights",
        )


def providers(device: torch.device, available: list[str]) -> list[Any]:
    """What onnxruntime may compute with: CUDA where the run and its build have it, then the CPU."""
    if device.type != "cuda" or "CUDAExecutionProvider" not in available:
        return ["CPUExecutionProvider"]
    # The search for the fastest convolution may end differently each time, and TF32 has 10 bits of mantissa.
    exact = {"device_id": device.index or 0, "cudnn_conv_algo_search": "HEURISTIC", "use_tf32": 0}
    return [("CUDAExecutionProvider", exact), "CPUExecutionProvider"]


class OnnxNetwork(TaskModel):
    """A segmenter or classifier in an ONNX file.

    Levels are found by running it once on random images of every size in `sizes`, in batches of two and of one.

    Raises:
        CoreError: `onnx.cannot_run`, `onnx.fixed_batch`, `onnx.not_a_map`, `weights.not_finite`.
    """

    def __init__(
        self, path: Path, plan: OnnxPlan, *, preprocess: Preprocess, device: torch.device, sizes: list[Size]
    ) -> None:
        super().__init__()
        self.plan = plan
        self.align_corners = plan.align_corners
        self.normalise = Normalise(preprocess).to(device)
        self.runtime = OnnxRuntime(path, plan, device)
        self.used = dict(plan.features)
        self.levels = {}
        for number, size in enumerate(dict.fromkeys(sizes)):
            found = self._probe(size, batch=2 if number == 0 else 1)
            self.levels = self.levels or found
        if LOGITS in self.levels:
            self.levels[LOGITS] = replace(self.levels[LOGITS], onward=True)

    @property
    def foreign(self) -> Foreign:
        return Foreign(self.plan.file.parameters, "onnxruntime")

    @property
    def head(self) -> nn.Module:
        raise AttributeError("a graph of another runtime has no parts")

    def part(self, name: str) -> nn.Module | None:
        return None

    def use(self, levels: set[str]) -> None:
        """Fetch no other levels from now on: a copy of a large map that nobody compares costs time."""
        self.used = {tensor: level for tensor, level in self.plan.features.items() if level in levels}

    def forward(self, images: Tensor) -> ModelOutput:
        ends = [tensor for tensor in self.plan.tensors if tensor not in self.plan.features or tensor == self.plan.raw]
        found = self.runtime(self.normalise(images), list(dict.fromkeys([*self.used, *ends])))
        features = {level: as_map(found[tensor]) for tensor, level in self.used.items()}
        return ModelOutput(features, raw=self._raw(found))

    def onward(self, replaced: dict[str, Tensor]) -> list[ModelOutput]:
        return [ModelOutput({}, raw=replaced[LOGITS].flatten(1) if self.plan.flat else replaced[LOGITS])]

    def _raw(self, found: dict[str, Tensor]) -> Any:
        assert self.plan.raw is not None
        return found[self.plan.raw]

    def _probe(self, size: Size, *, batch: int) -> dict[str, Level]:
        images = torch.rand(batch, 3, *size, generator=torch.Generator().manual_seed(0)).to(self.runtime.device)
        with torch.no_grad():
            found = self.runtime(self.normalise(images), self.plan.tensors)
        for tensor, values in found.items():
            self._require(tensor, values, batch)
        levels = {}
        for tensor, level in self.plan.features.items():
            one, flat = as_map(found[tensor]), found[tensor].dim() == 2
            levels[level] = Level(one.shape[1], 0 if flat else stride_of(size, (one.shape[-2], one.shape[-1])))
        return levels

    def _require(self, tensor: str, values: Tensor, batch: int) -> None:
        name, shape = self.plan.file.name, "x".join(str(size) for size in values.shape)
        if values.shape[:1] != (batch,):
            raise CoreError(
                "onnx.fixed_batch",
                f"for {batch} images {name} gives {tensor!r} of {shape}: its batch is fixed inside the graph",
                hint="export it with a dynamic first dimension",
                field="teacher.weights",
                value=shape,
            )
        wanted = 2 if self.plan.flat and tensor == self.plan.raw else 4
        if values.dim() != wanted and tensor in self.plan.features:
            raise CoreError(
                "onnx.not_a_map",
                f"{tensor!r} of {name} is {shape}, not N x {'classes' if wanted == 2 else 'channels x H x W'}",
                hint="name the tensor behind the pooling and the last layer"
                if wanted == 2
                else "name a tensor before it is flattened, or reshape it to a map when exporting",
                field="teacher.onnx.features",
                value=shape,
            )
        if not torch.isfinite(values).all():
            raise CoreError(
                "weights.not_finite", f"{tensor!r} of {name} has values that are not finite", field="teacher.weights"
            )


def as_map(values: Tensor) -> Tensor:
    """A level as methods see it: N K of a classifier becomes one position, N K 1 1."""
    return values if values.dim() == 4 else values[:, :, None, None]


class OnnxDetector(OnnxNetwork, Detector):
    """A detector in an ONNX file: features for every file, boxes for files that we exported."""

    def __init__(self, path: Path, plan: OnnxPlan, **facts: Any) -> None:
        super().__init__(path, plan, **facts)
        chosen = {name: value for name, value in plan.selection.items() if name != "levels"}
        self.selection = Selection(**chosen)
        self._levels: list[Any] = plan.selection.get("levels", [])
        # A graph of any size says how many candidates a position has, one of a fixed size how many there are.
        self.grid = [(one["stride"], one["each"]) for one in self._levels if isinstance(one, dict)]

    @property
    def scorable(self) -> bool:
        return bool(self.plan.selection)

    def _raw(self, found: dict[str, Tensor]) -> Any:
        return tuple(found[name] for name in BOX_OUTPUTS) if self.plan.selection else None

    def candidates(
        self, out: ModelOutput, image_size: Size, sizes: Sequence[Size | None] | None = None
    ) -> tuple[Tensor, Tensor]:
        scores, boxes = out.raw
        return scores, clip_each(boxes, image_size, sizes)

    def counts(self, image_size: Size) -> list[int]:
        return super().counts(image_size) if self.grid else [int(count) for count in self._levels]
