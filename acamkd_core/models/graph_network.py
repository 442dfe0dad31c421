"""A teacher that comes as a whole and is run as a whole: named levels like every network, no gradient, no tensors of ours."""

from __future__ import annotations

from dataclasses import replace
from typing import Any, Protocol

import torch
from torch import Tensor, nn

from acamkd_core.graph_plan import BOX_OUTPUTS, LOGITS, GraphPlan, Size, stride_of
from acamkd_core.models.anchors import Sizes, clip_each
from acamkd_core.models.base import Detector, Foreign, Level, ModelOutput, Normalise, Selection, TaskModel
from acamkd_core.spec.errors import CoreError
from acamkd_core.spec.models import Preprocess


class Runtime(Protocol):
    """What computes the tensors of a file.

    name: in words. parameters: numbers in its weights. device: where images come from and results go.
    """

    name: str
    parameters: int
    device: torch.device

    @property
    def on_gpu(self) -> bool:
        """Whether it computes on a GPU."""
        ...

    def __call__(self, images: Tensor, tensors: list[str]) -> dict[str, Tensor]:
        """Normalised images N3HW to these tensors, fp32 on `device`. Raises CoreError: `<kind>.cannot_run`."""
        ...


class GraphNetwork(TaskModel):
    """A segmenter or classifier.

    Levels are found by running it once on random images of every size in `sizes`, in batches of two and of one.

    Raises:
        CoreError: `<kind>.cannot_run`, `<kind>.fixed_batch`, `<kind>.not_a_map`, `weights.not_finite`.
    """

    def __init__(self, runtime: Runtime, plan: GraphPlan, *, preprocess: Preprocess, sizes: list[Size]) -> None:
        super().__init__()
        self.plan = plan
        self.align_corners = plan.align_corners
        self.normalise = Normalise(preprocess).to(runtime.device)
        self.runtime = runtime
        self.used = dict(plan.features)
        first, *others = dict.fromkeys(sizes)
        self.levels = self._probe(first, batch=2)
        for size in others or [first]:
            self._probe(size, batch=1)
        if LOGITS in self.levels:
            self.levels[LOGITS] = replace(self.levels[LOGITS], onward=True)

    @property
    def foreign(self) -> Foreign:
        return Foreign(self.runtime.parameters, self.runtime.name)

    @property
    def head(self) -> nn.Module:
        raise AttributeError("a network that is run as a whole has no parts")

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
        name, shape = self.plan.name, "x".join(str(size) for size in values.shape)
        if values.shape[:1] != (batch,):
            raise CoreError(
                f"{self.plan.kind}.fixed_batch",
                f"for {batch} images {name} gives {tensor!r} of {shape}: its batch is fixed inside",
                hint="export it with a dynamic first dimension",
                field="teacher.weights",
                value=shape,
            )
        wanted = 2 if self.plan.flat and tensor == self.plan.raw else 4
        if values.dim() != wanted and tensor in self.plan.features:
            raise CoreError(
                f"{self.plan.kind}.not_a_map",
                f"{tensor!r} of {name} is {shape}, not N x {'classes' if wanted == 2 else 'channels x H x W'}",
                hint="name the tensor behind the pooling and the last layer"
                if wanted == 2
                else "name a tensor before it is flattened, or reshape it to a map when exporting",
                field=f"teacher.{self.plan.kind}.features",
                value=shape,
            )
        if not torch.isfinite(values).all():
            raise CoreError(
                "weights.not_finite", f"{tensor!r} of {name} has values that are not finite", field="teacher.weights"
            )


def as_map(values: Tensor) -> Tensor:
    """A level as methods see it: N K of a classifier becomes one position, N K 1 1."""
    return values if values.dim() == 4 else values[:, :, None, None]


class GraphDetector(GraphNetwork, Detector):
    """A detector: features for every file, boxes for files that we exported."""

    def __init__(self, runtime: Runtime, plan: GraphPlan, **facts: Any) -> None:
        super().__init__(runtime, plan, **facts)
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

    def candidates(self, out: ModelOutput, image_size: Size, sizes: Sizes = None) -> tuple[Tensor, Tensor]:
        scores, boxes = out.raw
        return scores, clip_each(boxes, image_size, sizes)

    def counts(self, image_size: Size) -> list[int]:
        return super().counts(image_size) if self.grid else [int(count) for count in self._levels]
