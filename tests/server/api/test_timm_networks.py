"""timm's classifiers at submission: known by committed facts, to a server without timm and torch."""

from __future__ import annotations

from typing import Any

import pytest
import torch

from acamkd_core.native_file import write_native
from acamkd_core.spec.native import NativeHeader
from server.db.base import DEFAULT_PROJECT, new_id
from server.db.session import write_session
from server.db.tables import Dataset
from tests.server.api.conftest import World
from tests.server.api.test_jobs import JOBS, codes

NAMES = ["cat", "dog", "newt"]
SPEC: dict[str, Any] = {"dataset": "dataset:pets", "student": "mobilenet_v2-1.0", "distill": "logit"}


@pytest.fixture
def world(world: World) -> World:
    """A dataset with classes, and a ViT for images of 384 x 384 that knows them."""
    classes = [{"id": index, "name": name} for index, name in enumerate(NAMES)]
    (world.roots / "pets").mkdir()
    with write_session(world.context.engine) as session:
        session.add(
            Dataset(
                id=new_id(), project_id=DEFAULT_PROJECT, name="pets", format="image_folder", state="ready", classes=classes,
                root=str(world.roots / "pets"), task="classification", images={"train": 40, "val": 4}, version="1",
            )
        )  # fmt: skip
    arch = {"family": "timm", "backbone": "timm:vit_small_patch16_384"}
    header = NativeHeader.model_validate({"arch": arch, "num_classes": 3, "class_names": NAMES})
    write_native(world.roots / "vit.safetensors", {"x": torch.zeros(1)}, header)
    return world


def dry(world: World, **changes: Any) -> Any:
    return world.client.post(f"{JOBS}?dry_run=true", json={"teacher": "vit.safetensors"} | SPEC | changes)


def origins(answer: Any) -> dict[str, tuple[Any, str]]:
    assert answer.status_code == 200, answer.text
    return {one["path"]: (one["value"], one["origin"]) for one in answer.json()["origins"]}


def test_a_teacher_that_only_its_file_names_decides_on_the_size(world: World) -> None:
    assert origins(dry(world))["augment.size"] == ([384, 384], "automatic")
    answer = dry(world, augment={"size": [224, 224]})
    assert codes(answer) == {"augment.size": "augment.network_size"}
    assert answer.json()["problems"][0]["hint"] == "augment: {size: [384, 384]}, or teacher: {size: [384, 384]}"


def test_levels_of_a_vit_are_known(world: World) -> None:
    words = "c5 320x12x12 <- b12 384x24x24, adapter to 384, c5 -> 24x24"
    answer = dry(world, distill="acam")  # the last of its maps
    assert words in answer.text
    assert origins(answer)["distill.0.teacher_at"] == (["b12"], "automatic")
    assert words in dry(world, distill={"method": "acam", "at": "c5", "teacher_at": "b12"}).text
    answer = dry(world, distill={"method": "acam", "at": "c5", "teacher_at": "b7"})
    assert codes(answer) == {"distill.0.teacher_at": "distill.level"}
    assert answer.json()["problems"][0]["hint"] == "levels: b3, b6, b9, b12, logits"
    assert codes(dry(world, distill={"method": "maskd", "at": "c5", "teacher_at": "b12"})) == {
        "distill.0.teacher_at": "method.no_way_on"
    }
    placebo = {"method": "pkd", "at": "c5", "teacher_at": "b12", "placebo": "random_head"}
    assert codes(dry(world, distill=placebo)) == {"distill.0.placebo": "method.no_placebo"}


def test_timms_weights_say_the_network_and_the_size(world: World) -> None:
    teacher = {"weights": "timm:deit_tiny_patch16_224.fb_in1k", "label_map": {"n02123045": "cat", "n02099601": "dog"}}
    found = origins(dry(world, teacher=teacher))
    assert found["teacher.arch.backbone"] == ("timm:deit_tiny_patch16_224", "automatic")
    assert found["augment.size"] == ([224, 224], "automatic")
