"""Placebos: every method can be shown a teacher who knows nothing of use, and nothing else of the run changes."""

from __future__ import annotations

import zipfile
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch

from acamkd_core.engine.placebo import context_of, keep_head, of_other_images
from acamkd_core.methods.base import StepContext
from acamkd_core.models.base import ModelOutput
from acamkd_core.models.registry import build_model
from acamkd_core.models.retinanet import AnchorMaps
from acamkd_core.spec.errors import CoreError
from acamkd_core.spec.fit import headless_placebo
from acamkd_core.spec.job import parse_job
from tests.acamkd_core.contract.tiny import CLASSES, tiny
from tests.acamkd_core.engine.world import World, go, kinds, points
from tests.acamkd_core.methods.helpers import TERM, method, pair


@pytest.fixture(autouse=True)
def _one_thread() -> None:
    torch.set_num_threads(1)


@pytest.mark.parametrize("count", [2, 3, 5])
def test_every_image_gets_the_whole_output_of_another_one(count: int) -> None:
    marks = torch.arange(count, dtype=torch.float32).view(-1, 1, 1, 1).expand(-1, 2, 3, 3)
    raw = AnchorMaps((0, 2), [marks + 0.25, marks + 0.25], [marks + 0.5, marks + 0.5])
    partners = set()
    for step in range(2 * count):
        moved = of_other_images(ModelOutput({"p3": marks, "p5": marks}, raw), step)
        found = {int(value) for value in moved.features["p3"][:, 0, 0, 0]}
        assert found == set(range(count)), "each image's is used once"
        for n in range(count):
            other = float(moved.features["p3"][n, 0, 0, 0])
            assert other != n
            partners.add((n, other))
            assert float(moved.features["p5"][n, 1, 2, 2]) == other
            assert float(moved.raw.classes[1][n, 0, 0, 0]) == other + 0.25
            assert float(moved.raw.offsets[0][n, 0, 0, 0]) == other + 0.5
        assert moved.raw.levels == (0, 2)
    assert len(partners) == count * (count - 1), "over the steps all others in turn"
    alone = ModelOutput({"p3": marks[:1]}, None)
    assert of_other_images(alone, 3) is alone


def test_the_loss_is_that_of_the_exchanged_maps_and_draws_stay_what_they_were() -> None:
    student, teacher = torch.randn(3, 4, 4, 4), torch.randn(3, 4, 4, 4)

    def seen(placebo: str, name: str = "feature_mse", other: torch.Tensor | None = None) -> float:
        torch.manual_seed(0)
        built = method(name, [pair(4, 4)], placebo=placebo)
        outs = [ModelOutput({"logits": one}, one) for one in (teacher if other is None else other, student)]
        generator = torch.Generator().manual_seed(7)
        context = StepContext(outs[0], outs[1], None, None, None, 4, 100, generator)
        return sum(value.item() for value in built(context_of(built, context)).values())

    order = [2, 0, 1]  # step 4 of a batch of three: one further
    assert 1 + 4 % 2 == 1
    wanted = sum(((teacher[other] - student[n]) ** 2).sum().item() for n, other in enumerate(order)) / student.numel()
    assert seen("other_image") == pytest.approx(wanted, rel=1e-6)
    assert seen("none") != pytest.approx(wanted, rel=1e-3)
    assert seen("other_image", "mgd") == seen("none", "mgd", teacher[order]), "the same positions are hidden"


@pytest.mark.parametrize("family", ["deeplabv3", "pspnet", "lraspp", "retinanet", "fcos", "reppoints"])
def test_an_untrained_head_sits_on_the_teachers_own_backbone_and_neck(family: str) -> None:
    made = tiny(family)
    torch.manual_seed(5)
    fresh = build_model(made.archs[1], num_classes=CLASSES).eval()
    keep_head(fresh, made.teacher)
    with torch.no_grad():
        own, other = made.teacher(made.images), fresh(made.images)
    before = [name for name in own.features if name.startswith(("c", "p")) and name != "psp"]
    assert len(before) >= 4
    for name in before:
        assert torch.equal(own.features[name], other.features[name]), name
    if "logits" in own.features:
        assert not torch.allclose(own.features["logits"], other.features["logits"])
    else:
        assert not torch.allclose(own.raw.classes[0], other.raw.classes[0])
    context = StepContext(own, own, made.teacher.head, None, None, 0, 10, random_head=(other, fresh.head))
    shown = context_of(SimpleNamespace(options=SimpleNamespace(placebo="random_head")), context)  # type: ignore[arg-type]
    assert shown.teacher is other
    assert shown.teacher_head is fresh.head


def test_a_run_with_a_placebo_says_so_and_changes_only_what_is_taught(world: World, tmp_path: Path) -> None:
    def run(placebo: str) -> tuple[Any, list[Any]]:
        term = {"method": "logit", "placebo": placebo}
        return go(
            tmp_path / placebo, world.folder, teacher=world.taught(), distill=[term], schedule={"iterations": 2},
            evaluation={"every": 2, "panels": 0}, exports=["safetensors"],
        )  # fmt: skip

    first = {}
    for placebo in ("none", "other_image", "random_head"):
        result, events = run(placebo)
        assert result.status == "succeeded", result.error
        first[placebo] = points(events)
        said = any(f"logit is a placebo: {placebo}" in event.message for event in kinds(events, "log"))
        with zipfile.ZipFile(tmp_path / placebo / "exports" / "bundle.zip") as archive:
            card = archive.read(next(name for name in archive.namelist() if name.endswith("README.md"))).decode()
        assert said == (f"placebo {placebo}" in card) == (placebo != "none")
    assert len({values[1, "loss/task"] for values in first.values()}) == 1, "student, batch and labels are the same"
    assert first["random_head"][1, "loss/logit"] != first["none"][1, "loss/logit"]
    # This teacher says nearly the same of every image: what its exchange changes shows in the students that follow.
    assert len({values[2, "loss/logit"] for values in first.values()}) == 3


def test_placebos_that_would_do_nothing_are_refused() -> None:
    def term(name: str, **fields: Any) -> Any:
        return TERM.validate_python({"method": name, "placebo": "random_head", **fields})

    for family, one in (
        ("deeplabv3", term("cwd", at=["logits", "c5"])),
        ("retinanet", term("cwd", at=["p3"])),
        ("onnx", term("cwd", at=["logits"])),
    ):
        found = headless_placebo(one, family)
        assert found is not None
        assert (found.code, found.field) == ("method.no_placebo", "placebo")
        assert "other_image" in (found.hint or "")
    assert headless_placebo(term("cwd", at=["logits", "aspp"]), "deeplabv3") is None
    assert headless_placebo(term("crosskd"), "retinanet") is None
    assert (
        headless_placebo(TERM.validate_python({"method": "cwd", "at": ["c5"], "placebo": "other_image"}), "deeplabv3")
        is None
    )
    job = {
        "dataset": "somewhere", "teacher": "job:teacher", "student": "deeplabv3-mobilenet_v2-3.2m",
        "distill": [{"method": "cwd", "placebo": "other_image"}],
    }  # fmt: skip
    with pytest.raises(CoreError) as error:
        parse_job(job | {"batch": {"global_size": 4, "accumulate": 4}})
    assert error.value.info.field == "distill.0.placebo"
    parse_job(job | {"batch": {"global_size": 4, "accumulate": 2}})
