"""A teacher of other classes at submission: the map is shown, what is left over is warned of, or the job is refused."""

from __future__ import annotations

from typing import Any

import pytest
import torch

from acamkd_core.native_file import write_native
from acamkd_core.spec.native import NativeHeader
from server.db.base import DEFAULT_PROJECT, new_id
from server.db.session import write_session
from server.db.tables import Dataset
from tests import onnx_graphs
from tests.server.api.conftest import World
from tests.server.api.test_jobs import JOBS, codes

ARCH = {"family": "mobile_deeplabv3"}
SPEC: dict[str, Any] = {"dataset": "dataset:street", "student": "mobile_deeplabv3", "distill": "logit"}


@pytest.fixture
def world(world: World) -> World:
    """A dataset of four classes, and a teacher that knows three of them and a fourth."""
    classes = [{"id": index, "name": name} for index, name in enumerate(("road", "traffic light", "car", "sky"))]
    (world.roots / "street").mkdir()
    with write_session(world.context.engine) as session:
        session.add(
            Dataset(
                id=new_id(), project_id=DEFAULT_PROJECT, name="street", format="mask_folder", state="ready", classes=classes,
                root=str(world.roots / "street"), task="semantic_segmentation", images={"train": 40, "val": 4}, version="1",
            )
        )  # fmt: skip
    header = NativeHeader.model_validate(
        {"arch": ARCH, "num_classes": 4, "class_names": ["Sky", "Road", "traffic_light", "tree"]}
    )
    write_native(world.roots / "teacher.safetensors", {"x": torch.zeros(1)}, header)
    onnx_graphs.write(world.roots / "teacher.onnx", onnx_graphs.segmenter(classes=4))
    return world


def dry(world: World, teacher: Any, **changes: Any) -> Any:
    return world.client.post(f"{JOBS}?dry_run=true", json=SPEC | changes | {"teacher": teacher})


def test_the_map_is_shown_and_what_is_left_over_warned_of(world: World) -> None:
    answer = dry(world, {"weights": "teacher.safetensors", "label_map": "by_name"})
    assert answer.status_code == 200, answer.text
    found = {finding["info"]["code"]: (finding["severity"], finding["info"]) for finding in answer.json()["findings"]}
    severity, info = found["teacher.label_map"]
    assert (severity, info["field"]) == ("info", "teacher.label_map")
    assert info["message"] == (
        "the teacher knows 3 of 4 classes: road <- Road; traffic light <- traffic_light; sky <- Sky"
    )
    severity, info = found["teacher.classes_unmatched"]
    assert (severity, info["message"]) == ("warning", "the teacher does not know car; the dataset has no tree")


def test_without_a_map_it_is_refused_with_the_one_that_fits(world: World) -> None:
    answer = dry(world, "teacher.safetensors")
    assert codes(answer) == {"teacher": "teacher.other_classes"}
    assert answer.json()["problems"][0]["hint"].startswith(
        "teacher.label_map: by_name fits 3 of 4 classes; without car"
    )


@pytest.mark.parametrize(("teacher", "problems"), [
    ({"label_map": {"Road": "rood"}}, {"teacher.label_map": "teacher.label_map"}),
    ({"label_map": {"Road": "road"}}, {"teacher.label_map": "teacher.nothing_matches"}),
    ({"weights": "teacher.onnx", "label_map": "by_name"}, {"teacher.classes": "teacher.no_class_names"}),
    ({"weights": "teacher.onnx", "label_map": "by_name", "classes": ["sky", "car"]}, {"teacher": "teacher.other_classes"}),
])  # fmt: skip
def test_maps_that_do_not_fit(world: World, teacher: dict[str, Any], problems: dict[str, str]) -> None:
    sized = {"augment": {"size": [48, 64]}}
    assert codes(dry(world, {"weights": "teacher.safetensors"} | teacher, **sized)) == problems


def test_methods_that_need_the_teachers_labels(world: World) -> None:
    teacher = {"weights": "teacher.safetensors", "label_map": "by_name"}
    assert codes(dry(world, teacher, distill="maskd")) == {"distill.0.method": "method.other_classes"}
