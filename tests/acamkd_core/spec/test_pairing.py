"""Which levels are compared where a job does not say it: every pair of detector families, by the networks' own strides."""

from __future__ import annotations

from typing import Any

import pytest
from pydantic import TypeAdapter

from acamkd_core.spec.archs import entry_levels
from acamkd_core.spec.catalog import levels_of
from acamkd_core.spec.errors import ErrorInfo
from acamkd_core.spec.job import JobSpec, parse_job
from acamkd_core.spec.methods import MethodTerm
from acamkd_core.spec.pairing import Pairing, Shape, pair_up, pair_words

TERM: TypeAdapter[MethodTerm] = TypeAdapter(MethodTerm)
ONE_STAGE, TWO_STAGE, SIX_MAPS = "retinanet-r50-fpn", "faster_rcnn-resnet50", "ssdlite-mobilenet_v2"


def job(student: str, teacher: str, **term: Any) -> JobSpec:
    spec = parse_job({
        "dataset": "data", "student": student, "teacher": {"arch": teacher, "weights": "t.safetensors"}, "distill": [term],
    })  # fmt: skip
    assert isinstance(spec, JobSpec)
    return spec


def pair(spec: JobSpec) -> Pairing | ErrorInfo:
    assert spec.teacher is not None
    assert spec.teacher.arch is not None
    student, teacher = (
        {one.name: one.stride for one in levels_of(net.arch, 4)} for net in (spec.student, spec.teacher)
    )
    entries = entry_levels(spec.teacher.arch.family)
    return pair_up(spec.distill[0], student, teacher, given="at" in spec.distill[0].model_fields_set, entries=entries)


@pytest.mark.parametrize(("student", "teacher", "method", "pairs", "left_out"), [
    (ONE_STAGE, ONE_STAGE, "acam", "p3-p3 p4-p4 p5-p5 p6-p6 p7-p7", ""),
    (SIX_MAPS, SIX_MAPS, "pkd", "m1-m1 m2-m2 m3-m3 m4-m4", ""),
    # By stride, and the maps that a head looks at before the backbone's.
    (SIX_MAPS, ONE_STAGE, "acam", "m1-p4 m2-p5 m3-p6 m4-p7", ""),
    (ONE_STAGE, SIX_MAPS, "acam", "p3-c3 p4-m1 p5-m2 p6-m3 p7-m4", ""),
    (TWO_STAGE, ONE_STAGE, "acam", "p2-c2 p3-p3 p4-p4 p5-p5 p6-p6", ""),
    # The two-stage pyramid ends at stride 64: p7 is resized to it.
    (ONE_STAGE, TWO_STAGE, "fgd", "p3-p3 p4-p4 p5-p5 p6-p6 p7-p6", ""),
    (SIX_MAPS, TWO_STAGE, "acam", "m1-p4 m2-p5 m3-p6 m4-p6", ""),
    # Each level that masks are trained at teaches one level, the nearest; p6 of two stages leads nowhere.
    (TWO_STAGE, TWO_STAGE, "maskd", "p2-p2 p3-p3 p4-p4 p5-p5", ""),
    (ONE_STAGE, TWO_STAGE, "maskd", "p3-p3 p4-p4 p5-p5", "p6 p7"),
    (SIX_MAPS, ONE_STAGE, "freekd", "m1-p4 m2-p5 m3-p6 m4-p7", ""),
    (TWO_STAGE, ONE_STAGE, "maskd", "p3-p3 p4-p4 p5-p5", "p2"),
    # Heads are compared at the same levels.
    (ONE_STAGE, ONE_STAGE, "crosskd", "p3-p3 p4-p4 p5-p5 p6-p6 p7-p7", ""),
])  # fmt: skip
def test_detectors(student: str, teacher: str, method: str, pairs: str, left_out: str) -> None:
    found = pair(job(student, teacher, method=method))
    assert isinstance(found, Pairing)
    assert " ".join(f"{own}-{other}" for own, other in zip(found.at, found.teacher_at, strict=True)) == pairs
    assert " ".join(found.left_out) == left_out


def test_pairs_are_entered_as_left_out_and_hold_when_a_stored_spec_is_read_again() -> None:
    spec = job(SIX_MAPS, ONE_STAGE, method="acam")
    found = pair(spec)
    assert isinstance(found, Pairing)
    assert found.enter(spec.distill[0]) == {"teacher_at": ("p4", "p5", "p6", "p7")}
    assert not {"at", "teacher_at"} & spec.distill[0].model_fields_set
    stored = parse_job(spec.model_dump(mode="json"))
    assert isinstance(stored, JobSpec)
    again = pair(stored)
    assert isinstance(again, Pairing)
    assert again.enter(stored.distill[0]) == {}
    # Pairs of one name are not written out: they are what specs of earlier versions mean.
    same = job(ONE_STAGE, ONE_STAGE, method="acam")
    found = pair(same)
    assert isinstance(found, Pairing)
    assert found.enter(same.distill[0]) == {}


FINE = {"c2": 4, "c3": 8, "c4": 8, "c5": 8, "aspp": 8, "logits": 8}
COARSE = {"c2": 4, "c3": 8, "c4": 16, "c5": 32, "aspp": 32, "logits": 32}


def paired(
    student: dict[str, Any],
    teacher: dict[str, Any],
    at: Any,
    method: str = "cwd",
    *,
    given: bool = True,
    **options: Any,
) -> Any:
    found = pair_up(
        TERM.validate_python({"method": method, "at": at, **options}),
        student,
        teacher,
        given=given,
        entries=("logits",),
    )
    return found.teacher_at if isinstance(found, Pairing) else (found.code, found.field, found.value, found.hint)


def test_a_level_of_the_same_name_is_meant_where_it_is_near_enough() -> None:
    assert paired(COARSE, FINE, ["c4", "c5", "logits"]) == ("c4", "c5", "logits")
    assert paired(FINE, COARSE, ["c5", "aspp"]) == ("c5", "aspp")
    assert paired(COARSE, {"c5": 4, "late": 32}, "c5") == ("late",), "eight times larger: another level"
    assert paired(COARSE, FINE, "c5", teacher_at="c2") == ("c2",), "the job's own words, checked elsewhere"


def test_the_same_stride_first_then_the_nearest_and_the_last_of_it() -> None:
    assert paired(COARSE, {"b1": 16, "b2": 16, "x": 64, "logits": 16}, ["c4", "c5"]) == ("b2", "x")
    assert paired(COARSE, {"a": 8, "b": 8}, "c5") == ("b",)
    assert paired(COARSE, {"a": 32, "b": 8, "c": 4}, "c3") == ("b",)


def test_what_has_no_partner_is_refused_with_what_there_is() -> None:
    far = {"x": 64, "logits": 8}
    assert paired(COARSE, far, ["c5", "c2"]) == (
        "distill.no_partner", "at", "c2", "its levels: x (stride 64), logits (stride 8)"
    )  # fmt: skip
    assert paired({"logits": 0}, {"c5": 32}, "logits", given=False)[:3] == ("distill.no_partner", "at", "logits")
    assert paired({"c5": 32}, {"logits": 0}, "c5")[:3] == ("distill.no_partner", "at", "c5")
    # Where the job leaves it open, levels without a partner are left out, as long as one remains.
    found = pair_up(TERM.validate_python({"method": "cwd", "at": ["c2", "c5"]}), COARSE, far, given=False)
    assert found == Pairing(("c5",), ("x",), ("c2",))


def test_masks_are_trained_where_the_teacher_can_be_entered() -> None:
    assert paired(COARSE, FINE, ["logits"], "maskd") == ("logits",)
    # Named, it is refused for what it is (`no_way_on`); under another name nothing fits.
    assert paired(COARSE, FINE, ["c4"], "maskd") == ("c4",)
    assert paired(COARSE, {"late": 16, "logits": 16}, ["c4"], "maskd")[3] == (
        "its levels that it can be entered at: logits (stride 16)"
    )


def test_strides_that_only_the_run_can_tell_are_paired_by_name() -> None:
    assert paired(COARSE, {"c5": None, "deep": None}, "c5") == ("c5",)
    assert paired(COARSE, {"deep": None}, "c5") == ("distill.no_partner", "at", "c5", "its levels: deep")
    assert paired({}, FINE, "nope") == ("nope",), "unknown levels are another check's matter"


@pytest.mark.parametrize(("own", "other", "size", "words"), [
    (("logits", 11, 8), ("logits", 11, 8), (180, 240), "logits 11x23x30, no adapter"),
    (("c5", 112, 8), ("c5", 320, 8), (180, 240), "c5 112x23x30, adapter to 320"),
    (("m1", 576, 16), ("p4", 256, 16), (320, 320), "m1 576x20x20 <- p4 256x20x20, adapter to 256"),
    (("c4", 64, 16), ("c4", 64, 8), (320, 320), "c4 64x20x20 <- c4 64x40x40, no adapter, c4 -> 40x40"),
    (("p7", 256, 128), ("p6", 128, 64), None, "p7 256 <- p6 128, adapter to 128, p7 -> stride 64"),
    (("logits", 11, 8), ("logits",), None, "logits 11, no adapter"),
    (("c5", 320, 32), ("deep",), (64, 64), "c5 320x2x2 <- deep"),
    (("logits", 4, 0), ("logits", 4, 0), (64, 64), "logits 4, no adapter"),
])  # fmt: skip
def test_pairs_in_words(own: Any, other: Any, size: Any, words: str) -> None:
    assert pair_words(Shape(*own), Shape(*other), size) == words
