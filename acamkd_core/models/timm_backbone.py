"""Any network of timm with feature maps at strides 4, 8, 16 and 32 as a backbone, exactly as `features_only=True` gives it.

timm (github.com/huggingface/pytorch-image-models) is an extra: `pip install "acamkd[timm]"`. Which of its networks fit is
known without it (`spec.timm_models`). Strides beyond `output_stride` become dilation where the network can do that.
"""

from __future__ import annotations

import difflib
import re
from typing import Any, cast

import torch.nn.functional as F
from torch import Tensor, nn

from acamkd_core.models.base import Backbone, Level
from acamkd_core.models.layouts import Layout
from acamkd_core.models.state import StateDict
from acamkd_core.spec.errors import CoreError
from acamkd_core.spec.models import Preprocess
from acamkd_core.spec.timm_models import PREFIX, timm_facts
from acamkd_core.torchvision_compat import torchvision as _torchvision  # noqa: F401  (timm imports torchvision)

_LEVELS = ("c2", "c3", "c4", "c5")


def load_timm(field: str) -> Any:
    """The package.

    Raises:
        CoreError: `model.no_timm`.
    """
    try:
        import timm
    except ImportError:
        raise CoreError(
            "model.no_timm",
            "this machine's acamkd has no timm, and the job uses a network or weights of it",
            hint='pip install "acamkd[timm]" where jobs run',
            field=field,
        ) from None
    return timm


class TimmBackbone(Backbone):
    """`net` is timm's own feature extractor; its tensors keep their names.

    Networks whose maps are not a halving, rounded up, of the map before get their input padded (with the mean colour, at
    the right and at the bottom), and the maps are cut to what all other backbones give for that size.

    Args:
        name: `timm:NAME`.
        output_stride: 8, 16 or 32; what the network can do is the spec's to check.
    """

    enterable = False

    def __init__(self, name: str, *, output_stride: int) -> None:
        super().__init__()
        facts = timm_facts(name)
        assert facts is not None, name
        self.name = name
        self.net = create_features(
            name.removeprefix(PREFIX), first=facts.first, output_stride=output_stride, sizes=facts.sizes
        )
        self.multiple = facts.multiple
        strides = (min(stride, output_stride) for stride in (4, 8, 16, 32))
        self.levels = {n: Level(c, s) for n, c, s in zip(_LEVELS, facts.channels, strides, strict=True)}
        self.layout = _layout(self.net)

    def forward(self, images: Tensor) -> dict[str, Tensor]:
        height, width = images.shape[-2:]
        if self.multiple > 1:  # and not only where there is something to pad: in a graph of free size nobody knows
            images = F.pad(images, (0, -width % self.multiple, 0, -height % self.multiple))
        maps = self.net(images)
        if str(getattr(self.net, "output_fmt", "NCHW")).endswith("NHWC"):
            maps = [one.permute(0, 3, 1, 2).contiguous() for one in maps]
        return {
            name: one[..., : -(-height // level.stride), : -(-width // level.stride)]
            for (name, level), one in zip(self.levels.items(), maps, strict=True)
        }

    def onward(self, level: str, value: Tensor) -> Tensor:
        assert level == "c5", level
        return value

    def stages(self) -> list[nn.Module]:
        """The stages of networks that are a row of modules, as most of timm's are.

        Raises:
            CoreError: `student.freeze_stages` for any other.
        """
        row, ends = _row(self.net)
        if len(ends) != len(_LEVELS):
            raise CoreError(
                "student.freeze_stages",
                f"{self.name} does not come apart into stages",
                hint="`freeze: {norm: eval}` works with every backbone, stages with most convolutional ones",
                field="student.freeze.stages",
            )
        starts = (0, *ends[:-1])
        return [nn.ModuleList(row[start:end]) for start, end in zip(starts, ends, strict=True)]


def create_features(name: str, *, first: int, output_stride: int = 32, sizes: str = "any") -> nn.Module:
    """timm's feature extractor with the levels of strides 4 to 32, untrained.

    Args:
        first: timm's index of the level at stride 4.
        sizes: `asked` for a network that takes any image size only when told so (Swin).
    """
    options: dict[str, Any] = {} if output_stride == 32 else {"output_stride": output_stride}
    if sizes == "asked":
        options["strict_img_size"] = False
    indices = tuple(range(first, first + len(_LEVELS)))
    net: nn.Module = load_timm("arch.backbone").create_model(
        name, pretrained=False, features_only=True, out_indices=indices, **options
    )
    return net


def timm_preprocess(name: str, field: str) -> Preprocess:
    """What a pretrained network of timm (`NAME` or `NAME.TAG`) was fed; without a tag, timm's first choice.

    Raises:
        CoreError: `model.no_timm`, `weights.unknown_timm`.
    """
    config = _config(name, field)
    return Preprocess(mean=config.mean, std=config.std)


def timm_classes(name: str, field: str) -> list[str]:
    """The classes of pretrained weights of timm, in the order of their channels: ImageNet's, by their WordNet ids.

    Empty where timm does not say them. Raises CoreError: `model.no_timm`, `weights.unknown_timm`.
    """
    from timm.data import ImageNetInfo, infer_imagenet_subset

    subset = infer_imagenet_subset(_config(name, field).to_dict())
    return [str(one) for one in ImageNetInfo(subset).label_names()] if subset else []


def timm_weights(name: str, field: str) -> StateDict:
    """All tensors of a pretrained network of timm by timm's names, from its cache or from the hub.

    Raises:
        CoreError: `model.no_timm`, `weights.unknown_timm`, `weights.download_failed`.
    """
    config = _config(name, field)
    if not config.has_weights:
        raise _unknown(name, "has no pretrained weights for", field)
    try:
        return dict(load_timm(field).create_model(name, pretrained=True).state_dict())
    except (OSError, RuntimeError) as error:  # the hub's errors are OSErrors; a wrong file is a RuntimeError
        where = f"huggingface.co/{config.hf_hub_id}" if config.hf_hub_id else config.url
        raise CoreError(
            "weights.download_failed",
            f"{name} could not be downloaded: {str(error).splitlines()[0][:200]}",
            hint=f"get model.safetensors from {where} yourself and give it as `file`",
            field=field,
            value=name,
        ) from None


def _config(name: str, field: str) -> Any:
    timm = load_timm(field)
    if not timm.is_model(name.partition(".")[0]):
        raise _unknown(name, "has no weights called", field)
    try:
        return timm.get_pretrained_cfg(name)
    except RuntimeError:  # no such tag
        raise _unknown(name, "has no weights called", field) from None


def _unknown(name: str, what: str, field: str) -> CoreError:
    timm = load_timm(field)
    near = difflib.get_close_matches(name, timm.list_pretrained(), n=3, cutoff=0.5)
    return CoreError(
        "weights.unknown_timm",
        f"timm {timm.__version__} {what} {name!r}",
        hint=f"near it: {', '.join(near)}" if near else "e.g. timm:resnet18.a1_in1k",
        field=field,
        value=name,
    )


def _row(net: nn.Module) -> tuple[list[nn.Module], list[int]]:
    """The modules of a network that runs one after another, and where each level ends; no ends for other networks."""
    if isinstance(layers := getattr(net, "return_layers", None), dict):
        names = [name for name, _ in net.named_children()]
        return list(net.children()), [names.index(layer) + 1 for layer in layers]
    if isinstance(blocks := getattr(net, "blocks", None), nn.Sequential) and hasattr(net, "_stage_out_idx"):
        before = [module for name, module in net.named_children() if name != "blocks"]
        return [*before, *blocks], [len(before) + stage for stage in cast(dict[int, int], net._stage_out_idx)]
    return [], []


def _layout(net: nn.Module) -> Layout:
    """From the names of timm's whole classifier, as its files have them, to those in here.

    timm's extractor writes `stages.0.` as `stages_0.`; what lies behind the last level is not there.
    """
    tops = list(dict.fromkeys(key.partition(".")[0] for key in net.state_dict()))
    wrapped = "model." if tops == ["model"] else ""
    if wrapped:
        tops = list(dict.fromkeys(key.split(".")[1] for key in net.state_dict()))
    flat = [match.groups() for top in tops if (match := re.fullmatch(r"(\w+)_(\d+)", top))]
    rules = [(rf"^{stem}\.{number}\.", f"{stem}_{number}.") for stem, number in flat]
    ours = "|".join(map(re.escape, tops))
    return Layout(
        name="timm",
        groups=(tuple(rules), ((rf"^(?=(?:{ours})(?:\.|$))", f"backbone.net.{wrapped}"),)),
    )
