"""Loading weights into a network: which layout, what matched, what did not."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from acamkd_core.models.base import TaskModel
from acamkd_core.models.layouts import LAYOUT_NAMES, LAYOUTS, Layout
from acamkd_core.models.state import StateDict, read_state, save_native, weights_digest
from acamkd_core.models.timm_backbone import timm_weights
from acamkd_core.spec.errors import CoreError
from acamkd_core.spec.models import WeightsSpec
from acamkd_core.spec.native import NativeHeader, arch_from_file, read_native_header
from acamkd_core.torchvision_compat import torchvision as _torchvision  # noqa: F401  (makes the import below safe)

__all__ = [
    "LoadReport",
    "NativeHeader",
    "arch_from_file",
    "load_weights",
    "read_native_header",
    "read_state",
    "save_native",
    "weights_digest",
]

_BACKBONE = "backbone."
LISTED = 50  # names in the log of a run; an odd file may have thousands
# Where a network of each kind says how many classes it knows, and how many outputs there are of each class.
_CLASSIFIERS = {
    "aspp_head.classifier.weight": 1,
    "psp_head.classifier.weight": 1,
    "lraspp_head.high_classifier.weight": 1,
    "class_head.classifier.weight": 1,
    "class_head.classifier.1.weight": 1,
    "class_head.classifier.3.weight": 1,
    "box_head.classification_head.cls_logits.weight": 9,
    "box_head.cls_logits.weight": 1,
    "box_head.roi.cls_score.weight": 1,
}
_BACKGROUND = ("box_head.roi.cls_score.weight",)  # has one output more, which is no class
# Not needed to compute scores: the auxiliary head serves training only, the counter only cumulative averages.
_OPTIONAL_PREFIX, _OPTIONAL_SUFFIX = "aux_head.", "num_batches_tracked"


@dataclass
class LoadReport:
    """What loading did. Names are ours, except `unexpected` (the file's own); `rename` gives ours for the file's.

    mismatched: name to (shape in the file, as the key map converts it; shape in the network); these were not loaded.
    """

    source: str
    layout: str
    rename: Callable[[str], str | None]
    matched: list[str] = field(default_factory=list)
    missing: list[str] = field(default_factory=list)
    unexpected: list[str] = field(default_factory=list)
    mismatched: dict[str, tuple[tuple[int, ...], tuple[int, ...]]] = field(default_factory=dict)

    def __str__(self) -> str:
        parts = [f"{self.source}: {len(self.matched)} tensors matched (layout {self.layout})"]
        for label, names in (("missing", self.missing), ("unexpected", self.unexpected)):
            if names:
                parts.append(f"{len(names)} {label}: {_some(names, LISTED)}")
        if self.mismatched:
            shapes = [f"{key} {list(have)} for {list(want)}" for key, (have, want) in self.mismatched.items()]
            parts.append(f"{len(self.mismatched)} of other shape: {_some(shapes, LISTED)}")
        return "; ".join(parts)


def load_weights(
    model: TaskModel,
    source: str | Path | WeightsSpec,
    *,
    layout: str | None = None,
    files: Mapping[str, Path] | None = None,
    backbone_only: bool = False,
    strict: bool = False,
    field: str = "weights",
) -> LoadReport:
    """Copies every tensor whose name (after the key map) and shape fit into `model`, in place.

    Args:
        model: the network.
        source: a file, or a weights spec. `job:` and `model:` sources are looked up in `files` by their reference.
        layout: key map; automatic: the one that matches most tensors.
        files: local file of each reference, e.g. {"job:camvid-teacher": Path(...)}.
        backbone_only: touch the backbone alone.
        strict: every tensor that computes scores must match (a teacher); otherwise what did not match is only listed.
        field: dotted path in the spec for error messages.

    Raises:
        CoreError: the codes of `read_state`, and `weights.nothing_matches`, `weights.other_classes` and
            `weights.incomplete` (both strict only), `weights.other_layout`, `weights.not_finite`, `weights.unknown_torchvision`,
            `weights.download_failed`, `weights.not_local`, and the codes of `timm_weights`.
    """
    spec = source if isinstance(source, WeightsSpec) else WeightsSpec(file=str(source))
    name, state = _fetch(spec, files or {}, field)
    chosen = layout or spec.layout
    if chosen is not None and chosen not in LAYOUT_NAMES:
        raise CoreError("weights.unknown_layout", f"unknown layout {chosen!r}", field=field, value=chosen)
    ours = model.state_dict()
    if backbone_only:
        ours = {key: value for key, value in ours.items() if _in_backbone(key, model)}
    report, picked = _best(state, ours, model, name, chosen, field)
    if backbone_only:
        # The rest of a whole network is expected to be there, and not wanted.
        report.unexpected = [key for key in report.unexpected if _in_backbone(report.rename(key) or "", model)]
    if strict:
        _require_complete(report, model, field)
    if broken := [key for key, tensor in picked.items() if not torch.isfinite(tensor).all()]:
        raise CoreError(
            "weights.not_finite",
            f"{name} holds values that are not finite",
            hint=f"in {_some(broken)}; the training that wrote the file had diverged",
            field=field,
        )
    with torch.no_grad():
        for key, tensor in picked.items():
            ours[key].copy_(tensor)  # state_dict() shares memory with the network
    return report


def _in_backbone(key: str, model: TaskModel) -> bool:
    """Whether a name of ours is one of the backbone's, and not of a head that lies inside it."""
    return key.startswith(_BACKBONE) and not key.startswith(model.backbone.heads)


@torch.no_grad()
def inherit(student: TaskModel, teacher: TaskModel, name: str) -> str:
    """Copies the teacher's tensors of a part (`neck`, `head`) where names and shapes agree; says how many.

    Raises:
        CoreError: `student.inherit_nothing` when a network has no such part, or no tensor fits.
    """
    own, theirs = student.part(name), teacher.part(name)
    wanted = own.state_dict() if own is not None else {}
    given = theirs.state_dict() if theirs is not None else {}
    fitting = [key for key, tensor in wanted.items() if key in given and given[key].shape == tensor.shape]
    if not any(key.endswith("weight") for key in fitting):
        raise CoreError(
            "student.inherit_nothing",
            f"no tensor of the teacher's {name} fits the student's",
            hint="parts are inherited between networks of one family with the same channels (fpn_channels)",
            field="student.inherit",
            value=name,
        )
    for key in fitting:
        wanted[key].copy_(given[key])  # state_dict() shares memory with the network
    return f"{len(fitting)} of {len(wanted)} tensors from the teacher"


def _fetch(spec: WeightsSpec, files: Mapping[str, Path], field: str) -> tuple[str, StateDict]:
    local = files.get(spec.reference)
    if local is not None:
        return spec.reference, read_state(local)
    if spec.torchvision is not None:
        return spec.reference, _from_torchvision(spec.torchvision, field)
    if spec.timm is not None:
        return spec.reference, timm_weights(spec.timm, field)
    if spec.file is None:
        raise CoreError(
            "weights.not_local",
            f"{spec.reference} is known to the server only",
            hint="submit the job to the server, or give a file",
            field=field,
            value=spec.reference,
        )
    return Path(spec.file).name, read_state(spec.file)


def torchvision_classes(name: str, field: str) -> list[str]:
    """The classes that torchvision's weights were trained on, in the order of their channels.

    Raises:
        CoreError: `weights.unknown_torchvision`.
    """
    return [str(one) for one in _torchvision_weights(name, field).meta.get("categories") or []]


def _torchvision_weights(name: str, field: str) -> Any:
    import torchvision.models  # the package itself came through torchvision_compat

    try:
        return torchvision.models.get_weight(name)
    except (ValueError, AttributeError, KeyError):
        raise CoreError(
            "weights.unknown_torchvision",
            f"torchvision has no weights called {name!r}",
            hint="e.g. MobileNet_V2_Weights.IMAGENET1K_V1",
            field=field,
            value=name,
        ) from None


def _from_torchvision(name: str, field: str) -> StateDict:
    weights = _torchvision_weights(name, field)
    try:
        return dict(weights.get_state_dict(progress=False, check_hash=True, map_location="cpu", weights_only=True))
    except (OSError, RuntimeError) as error:  # URLError is an OSError; a wrong hash is a RuntimeError
        raise CoreError(
            "weights.download_failed",
            f"{name} could not be downloaded: {error}",
            hint=f"get {weights.url} yourself and give it as `file`",
            field=field,
            value=name,
        ) from None


def _best(
    state: StateDict, ours: Mapping[str, Tensor], model: TaskModel, source: str, chosen: str | None, field: str
) -> tuple[LoadReport, StateDict]:
    """What the key map gives that matches most tensors. One that was chosen, though another would match more, is refused."""
    own = getattr(getattr(model, "backbone", None), "layout", None)
    layouts = (*LAYOUTS, own) if own is not None else LAYOUTS
    attempts = [_match(state, ours, layout, source) for layout in layouts]
    # Step counters have no shape and fit between any two networks of a family: they are no match.
    counts = [sum(not key.endswith(_OPTIONAL_SUFFIX) for key in picked) for _, picked in attempts]
    best = counts.index(max(counts))  # the first of equals
    asked = [index for index, layout in enumerate(layouts) if chosen in (None, layout.name)]
    taken = max(asked, key=lambda index: counts[index])
    if counts[taken] < counts[best]:
        raise CoreError(
            "weights.other_layout",
            f"layout {chosen} matches {counts[taken]} tensors of {source}, {layouts[best].name} matches {counts[best]}",
            hint=f"layout: {layouts[best].name}, or leave it out: the one that matches most is taken",
            field=field,
            value=chosen,
        )
    if not counts[taken]:
        raise _nothing_matches(attempts[taken][0], list(state), list(ours), field)
    return attempts[taken]


def _match(state: StateDict, ours: Mapping[str, Tensor], layout: Layout, source: str) -> tuple[LoadReport, StateDict]:
    report = LoadReport(source=source, layout=layout.name, rename=layout.rename)
    picked: StateDict = {}
    for name, tensor in state.items():
        key = layout.rename(name)
        if key is None:
            continue
        if key not in ours:
            report.unexpected.append(name)
            continue
        if tensor.dim() == ours[key].dim():
            tensor = layout.convert(name, tensor)
        if tensor.shape != ours[key].shape:
            report.mismatched[key] = (tuple(tensor.shape), tuple(ours[key].shape))
        else:
            picked[key] = tensor
    report.matched = sorted(picked)
    report.missing = [
        key for key in ours if key not in picked and key not in report.mismatched and not key.endswith(_OPTIONAL_SUFFIX)
    ]
    return report, picked


def _nothing_matches(report: LoadReport, theirs: list[str], ours: list[str], field: str) -> CoreError:
    if report.mismatched:
        key, (have, want) = next(iter(report.mismatched.items()))
        hint = (
            f"the names fit but not the shapes, e.g. {key}: {list(have)} in the file, {list(want)} here; other width?"
        )
    else:
        hint = f"the file has e.g. {_some(theirs)}; the network wants e.g. {_some(ours)}"
    return CoreError(
        "weights.nothing_matches", f"no tensor of {report.source} fits this network", hint=hint, field=field
    )


def _require_complete(report: LoadReport, model: TaskModel, field: str) -> None:
    classifiers = {**_CLASSIFIERS, **dict.fromkeys(getattr(model.backbone, "class_outputs", ()), 1)}
    for classifier in (name for name in classifiers if name in report.mismatched):
        theirs, wanted = (
            shape[0] // classifiers[classifier] - (classifier in _BACKGROUND) for shape in report.mismatched[classifier]
        )
        if theirs != wanted:
            raise CoreError(
                "weights.other_classes",
                f"the weights of {report.source} are for {theirs} classes, but {wanted} are needed here",
                hint="set teacher.label_map (`by_name`, or {teacher class: dataset class}), or train a teacher on this dataset",
                field=field,
                value=theirs,
            )
    lacking = [key for key in (*report.missing, *report.mismatched) if not key.startswith(_OPTIONAL_PREFIX)]
    if lacking:
        raise CoreError(
            "weights.incomplete",
            f"{report.source} lacks {len(lacking)} tensors of this network, or has them in another shape",
            hint=f"{_some(lacking)}; does `arch` name the network of the file (backbone, channels, deep_stem)?",
            field=field,
        )


def _some(names: list[str], count: int = 3) -> str:
    return ", ".join(names[:count]) + (", ..." if len(names) > count else "")
