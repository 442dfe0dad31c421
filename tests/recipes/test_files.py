"""The library: files are the table's, jobs are whole and fit their networks, numbers are those of the papers."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
import torch

from acamkd_core.engine.build import pair_levels
from acamkd_core.models.base import TaskModel
from acamkd_core.models.registry import build_model
from acamkd_core.spec.catalog import load_catalog
from acamkd_core.spec.fit import misfit_of, no_way_on
from acamkd_core.spec.job import JobSpec, parse_job
from acamkd_core.spec.models import ModelSpec
from acamkd_core.spec.recipes import Recipe
from acamkd_core.spec.tasks import TASKS
from recipes.library import FOLDER, file_of, job_of, load_index, text_of
from recipes.page import page
from recipes.write import DOCS, build

RECIPES = load_index().recipes
NAMES = [recipe.name for recipe in RECIPES]
# Typed from the papers' tables, not from recipes/table: (pair, method) to the printed number.
PRINTED = {
    ("coco-retinanet-r50", "alone"): 37.4,
    ("coco-retinanet-r101", "alone"): 38.9,
    ("coco-retinanet-r101-r50", "fgd"): 39.6,
    ("coco-retinanet-r101-r50", "maskd"): 39.8,
    ("coco-retinanet-r101-r50", "acam"): 41.2,
    ("coco-retinanet-r101-r50", "acam-spatial"): 40.9,
    ("coco-retinanet-r101-r50", "acam-channel"): 40.4,
    ("coco-retinanet-r101-r50", "acam-student-query"): 41.0,
    ("coco-retinanet-r101-r50", "acam-teacher-masks"): 39.9,
    ("coco-retinanet-r101-r50", "freekd"): 39.9,
    ("coco-retinanet-x101", "alone"): 41.0,
    ("coco-retinanet-x101-r50", "maskd"): 40.9,
    ("coco-retinanet-x101-r50", "freekd"): 41.0,
    ("coco-retinanet-x101-r50", "acam"): 41.5,
    ("coco-fcos-r50", "alone"): 38.5,
    ("coco-fcos-r101", "alone"): 40.8,
    ("coco-fcos-r101-r50", "fgd"): 42.7,
    ("coco-fcos-r101-r50", "maskd"): 42.2,
    ("coco-faster_rcnn-r50", "alone"): 38.4,
    ("coco-faster_rcnn-r101", "alone"): 39.8,
    ("coco-faster_rcnn-r101-r50", "fgd"): 40.4,
    ("coco-faster_rcnn-r101-r50", "maskd"): 40.8,
    ("coco-faster_rcnn-r101-r50", "freekd"): 40.8,
    ("coco-faster_rcnn-r101-r50", "acam"): 41.4,
    ("coco-faster_rcnn-x101-r50", "maskd"): 42.4,
    ("coco-faster_rcnn-x101-r50", "freekd"): 42.4,
    ("coco-faster_rcnn-x101-r50", "acam"): 42.6,
    ("coco-reppoints-r50", "alone"): 38.6,
    ("coco-reppoints-r101", "alone"): 40.5,
    ("coco-reppoints-x101", "alone"): 44.2,
    ("coco-reppoints-r101-r50", "fgd"): 41.0,
    ("coco-reppoints-r101-r50", "maskd"): 41.1,
    ("coco-reppoints-r101-r50", "acam"): 42.5,
    ("coco-reppoints-x101-r50", "maskd"): 41.8,
    ("coco-reppoints-x101-r50", "freekd"): 42.4,
    ("coco-reppoints-x101-r50", "acam"): 42.8,
    ("coco-ssdlite-mobilenet_v2", "alone"): 22.1,
    ("cityscapes-deeplabv3-r101", "alone"): 78.07,
    ("cityscapes-deeplabv3-r18", "alone"): 72.96,
    ("cityscapes-deeplabv3-r101-r18", "cwd"): 75.55,
    ("cityscapes-deeplabv3-r101-r18", "maskd"): 77.00,
    ("cityscapes-deeplabv3-r101-r18", "acam"): 77.53,
    ("cityscapes-deeplabv3-mobilenet_v2", "alone"): 73.12,
    ("cityscapes-deeplabv3-r101-mobilenet_v2", "cwd"): 74.66,
    ("cityscapes-deeplabv3-r101-mobilenet_v2", "maskd"): 75.26,
    ("cityscapes-deeplabv3-r101-mobilenet_v2", "acam"): 76.21,
    ("cityscapes-pspnet-r18", "alone"): 72.55,
    ("cityscapes-deeplabv3-r101-pspnet-r18", "cwd"): 74.36,
    ("cityscapes-deeplabv3-r101-pspnet-r18", "maskd"): 75.34,
    ("cityscapes-deeplabv3-r101-pspnet-r18", "acam"): 75.99,
    ("voc-mobile_deeplabv3", "alone"): 75.32,
    ("voc-mobile_deeplabv3_aspp", "alone"): 75.70,
    ("imagenet-mobilenet_v2_1.0", "alone"): 72.0,
    ("imagenet-mobilenet_v2_1.4", "alone"): 74.7,
}


def spec_of(recipe: Recipe) -> JobSpec:
    spec = parse_job(job_of(recipe))
    assert isinstance(spec, JobSpec)
    return spec


_NETWORKS: dict[str, TaskModel] = {}


def network(model: ModelSpec) -> TaskModel:
    """The full network, without memory for its tensors."""
    assert model.arch is not None
    key = model.arch.model_dump_json()
    if key not in _NETWORKS:
        with torch.device("meta"):
            _NETWORKS[key] = build_model(model.arch, num_classes=20)
    return _NETWORKS[key]


def test_files_index_and_page_are_what_the_table_says() -> None:
    files, index = build()
    for path, text in files.items():
        assert (FOLDER / path).read_text(encoding="utf-8") == text, f"{path}: run `python -m recipes.write`"
    assert {path.relative_to(FOLDER) for ending in ("yaml", "json") for path in FOLDER.rglob(f"*.{ending}")} == set(
        files
    )
    assert DOCS.read_text(encoding="utf-8") == page(index), "run `python -m recipes.write`"
    assert load_index() == index
    assert len(set(NAMES)) == len(NAMES)


def test_expected_numbers_are_the_printed_ones() -> None:
    found = {recipe.name: recipe.expected.value for recipe in RECIPES if recipe.expected is not None}
    assert found == {f"{pair}-{method}": value for (pair, method), value in PRINTED.items()}
    for recipe in RECIPES:
        reference = job_of(recipe).get("reference")
        if recipe.expected is None:
            assert reference is None, recipe.name
            continue
        assert recipe.expected.metric == TASKS[recipe.task].metric
        assert reference == {
            recipe.expected.metric: recipe.expected.value, "source": recipe.source, "status": recipe.status,
        }  # fmt: skip
        assert recipe.status == "not_reproduced"


@pytest.mark.parametrize("recipe", RECIPES, ids=NAMES)
def test_a_recipe_is_a_whole_job_that_fits_its_networks(recipe: Recipe) -> None:
    spec, job = spec_of(recipe), job_of(recipe)
    assert spec.task == recipe.task
    assert recipe.name == Path(file_of(recipe)).stem
    assert (recipe.method == "alone") == (spec.teacher is None) == (not spec.distill)
    assert recipe.method == "alone" or recipe.method == spec.distill[0].method
    for one in recipe.files:
        node = job
        for key in one.field.split("."):
            node = node[key]
        assert node == one.value
    # Nothing that has to be set is left unsaid: every path of the job is in the list.
    paths = {path for path, value in leaves(job) if path.rpartition(".")[2] in ("root", "file")}
    assert paths == {one.field for one in recipe.files}
    presets = {preset.name for preset in load_catalog().presets}
    for role in ("teacher", "student"):
        arch = job.get(role, {}).get("arch")
        assert not isinstance(arch, str) or arch in presets
    student = network(spec.student)
    teacher = None if spec.teacher is None else network(spec.teacher)
    for term in spec.distill:
        assert teacher is not None
        assert misfit_of(term, spec.task) is None
        assert spec.teacher is not None
        assert spec.teacher.arch is not None
        assert no_way_on(term, spec.teacher.arch.family) is None
        pairs = pair_levels(term, student, teacher, "distill.0")
        # The papers compare maps of one size and width; only a teacher of another family needs more.
        same = {
            (pair.student.channels, pair.student.stride) == (pair.teacher.channels, pair.teacher.stride)
            for pair in pairs
        }
        assert same == {True} or recipe.dataset in ("VOC 2012", "ImageNet") or "ssdlite" in recipe.name


def test_settings_are_those_that_the_papers_state() -> None:
    for recipe in RECIPES:
        spec = spec_of(recipe)
        given = (spec.optimizer.name, spec.optimizer.lr, spec.optimizer.momentum, spec.optimizer.weight_decay)
        if recipe.dataset == "Cityscapes":
            assert given == ("sgd", 0.02, 0.9, 5e-4)
            assert (spec.schedule.iterations, spec.schedule.policy, spec.schedule.power) == (40_000, "poly", 0.9)
            assert (spec.batch.global_size, spec.augment.crop, spec.augment.scale) == (16, (512, 1024), (0.5, 2.0))
            assert (spec.task_loss.aux_weight == 0) == ("MobileNet" in recipe.student)
        elif recipe.dataset == "COCO 2017" and "SSDLite" not in recipe.student:
            rate = 0.02 if "Faster" in recipe.student else 0.01
            assert given == ("sgd", rate, 0.9, 1e-4)
            assert (spec.schedule.epochs, spec.schedule.milestones) == (24, (16, 22))
            assert spec.augment.resize is not None
            assert (spec.augment.resize.short, spec.augment.resize.max) == (800, 1333)
            assert (spec.student.freeze.stages, spec.student.freeze.norm) == (1, "eval")
            assert (spec.student.inherit == ("neck", "head")) == (spec.teacher is not None)
        for term in spec.distill:
            if term.method == "acam":
                classes = {"Cityscapes": 19, "VOC 2012": 21}.get(recipe.dataset, 6)
                assert (term.masks, term.weight, term.diversity_weight) == (classes, 1.0, 1.0)


def test_the_first_lines_say_what_the_file_is() -> None:
    for recipe in RECIPES:
        text = text_of(recipe)
        assert text.startswith(f"# {recipe.name}: {recipe.dataset}, ")
        assert ("No printed number" in text) == (recipe.expected is None)
        assert max(len(line) for line in text.splitlines() if line.startswith("#")) <= 120


def leaves(value: object, path: str = "") -> Iterator[tuple[str, object]]:
    if isinstance(value, dict):
        for name, child in value.items():
            yield from leaves(child, f"{path}.{name}" if path else name)
    else:
        yield path, value
