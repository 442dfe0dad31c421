"""A classification dataset and its runs through the real server, worker and dashboard."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
from playwright.sync_api import expect

from acamkd_core.client import ApiError
from tests.acamkd_core.datasets.shapes_factory import write_shapes
from tests.e2e.conftest import World
from tests.e2e.look import Visitor
from tests.e2e.platform import until

pytestmark = pytest.mark.serial
JOB: dict[str, Any] = {
    "dataset": "dataset:shapes",
    "student": {"arch": {"family": "mobilenet_v2", "width": 0.35}},
    "augment": {"size": [64, 64], "area": [0.5, 1.0]},
    "optimizer": {"name": "adamw", "lr": 3e-3},
    "batch": {"global_size": 6},
    "schedule": {"iterations": 6},
    "evaluation": {"every": 3, "panels": 2},
}
# It learnt next to nothing in six steps, which has to be said, or no run would take it.
TEACHER = {"weights": "job:shapes-teacher", "expect": {"top1": 50, "tolerance": 100}}


@pytest.fixture(scope="module")
def student(world: World) -> str:
    """Dataset, teacher and distilled student; what the API says on the way."""
    client = world.platform.client
    folder = write_shapes(
        world.platform.data.parent / "data" / "shapes", {"train": 6, "val": 3, "test": 3}, size=(70, 90)
    )
    client.datasets.add("shapes", folder)
    until(lambda: client.datasets.get("shapes").state != "inspecting", 120)
    found = client.datasets.get("shapes")
    assert (found.state, found.task, found.images) == ("ready", "classification", {"train": 18, "val": 9, "test": 9})
    assert [one["name"] for one in found.classes] == ["apple", "leaf", "sky"]
    unfit = {**JOB, "teacher": "x.safetensors", "distill": [{"method": "cwd", "at": "logits"}]}
    with pytest.raises(ApiError) as refused:
        client.jobs.create(unfit)
    assert {problem.code for problem in refused.value.problems} >= {"method.needs_positions"}
    client.jobs.create({**JOB, "name": "shapes-teacher", "exports": ["safetensors"]})
    terms = [{"method": "logit", "temperature": 4}, {"method": "acam"}]
    job = client.jobs.create({**JOB, "name": "shapes-student", "teacher": TEACHER, "distill": terms})
    assert job.wait(timeout=240).state == "succeeded", job.refresh()
    assert set(job.results) >= {"test/top1", "best/top1", "teacher/top1", "export/onnx/top1"}
    return job.name


def test_the_pages_speak_of_classes_and_top_1(student: str, world: World, visit: Callable[..., Visitor]) -> None:
    job = world.platform.client.jobs.get(student)
    visitor = visit()
    page = visitor.see(f"/runs/{student}", student)
    expect(page.get_by_text("top-1").first).to_be_visible()
    expect(page.get_by_role("heading", name="Accuracy per class")).to_be_visible()
    expect(page.get_by_text(f"{job.results['best/top1']:.1f}").first).to_be_visible()
    page = visitor.see(f"/runs/{student}?tab=predictions", student)
    expect(page.get_by_role("img").first).to_be_visible()
    page = visitor.see(f"/runs/{student}?tab=artifacts", student)
    expect(page.get_by_role("row").filter(has_text="model.onnx")).to_contain_text("verified")
    page = visitor.see("/datasets?name=shapes", "shapes")
    expect(page.get_by_text("train: share of images")).to_be_visible()
    expect(page.get_by_role("row").filter(has_text="leaf")).to_contain_text("33.3 %")
    page = visitor.see(f"/new?from={student}", "New run")
    check = page.get_by_role("region", name="Check")
    expect(check).to_contain_text("can be submitted")
    expect(check).to_contain_text("logits 3, no adapter; c5 112x2x2, no adapter")
