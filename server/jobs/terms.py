"""What a distillation term has to fit at submission: task, networks, their levels, a recorded ratio."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from acamkd_core.spec.archs import entry_levels
from acamkd_core.spec.errors import CoreError
from acamkd_core.spec.fit import far_levels, headless_placebo, misfit_of, no_way_on, other_head
from acamkd_core.spec.job import JobSpec
from acamkd_core.spec.label_map import mapped_misfit
from acamkd_core.spec.models import WeightsSpec
from acamkd_core.spec.pairing import Pairing, pair_up
from server.jobs.references import Network, network_of
from server.jobs.teacher import teacher_strides
from server.paths import inside_roots

if TYPE_CHECKING:
    from server.jobs.checks import Checked, Scope


def _check_levels(network: Network | None, names: tuple[str, ...], path: str, who: str, checked: Checked) -> None:
    known = network.levels() if network is not None else []
    for name in names:
        if known and name not in known:
            message = f"the {who} has no level {name!r}"
            checked.refuse("distill.level", message, path, hint="levels: " + ", ".join(known), value=name)


def _pair(spec: JobSpec, index: int, checked: Checked, entries: tuple[str, ...] | None) -> bool:
    """Enters the pairs of levels that the job leaves open; False, with a problem, where a level has no partner."""
    term, path = spec.distill[index], f"distill.{index}"
    student = checked.student.levels_by_stride() if checked.student is not None else {}
    strides = teacher_strides(spec, checked)
    teacher = {name: strides.get(name) for name in checked.teacher.levels()} if checked.teacher is not None else {}
    if not student or not teacher:
        return True  # the run will know
    pairing = pair_up(term, student, teacher, given="at" in term.model_fields_set, entries=entries)
    if not isinstance(pairing, Pairing):
        checked.problems.append(pairing.within(path))
        return False
    pairing.enter(term)
    if pairing.left_out:
        checked.note("distill.left_out", pairing.words(), f"{path}.at", "info")
    return True


def check_term(spec: JobSpec, index: int, scope: Scope, checked: Checked) -> None:
    """Adds problems and findings about one entry of `distill`, and enters the pairs of levels that it leaves open."""
    term, path = spec.distill[index], f"distill.{index}"
    misfit = misfit_of(term, spec.task)
    if misfit is None and checked.matched is not None:
        misfit = mapped_misfit(term, spec.task, checked.matched)
    if misfit is not None:
        checked.problems.append(misfit.within(path))
        return
    if term.teacher_at is not None and len(term.teacher_at) != len(term.at):
        message = f"{len(term.at)} student levels face {len(term.teacher_at)} teacher levels"
        hint = "name one teacher level for each level of `at`, in its order"
        checked.refuse("distill.levels_differ", message, f"{path}.teacher_at", hint=hint)
    if len(set(term.at)) != len(term.at):
        hint = "a second term can compare it with another level of the teacher"
        checked.refuse("distill.level_twice", "a level is named twice", f"{path}.at", hint=hint, value=list(term.at))
    student, teacher = checked.student, checked.teacher
    _check_levels(student, term.at, f"{path}.at", "student", checked)
    teacher_path = f"{path}.teacher_at" if term.teacher_at else f"{path}.at"
    family = teacher.family if teacher is not None else None
    backbone = getattr(teacher.arch, "backbone", "") if teacher is not None else ""
    if not _pair(spec, index, checked, entry_levels(family, backbone) if family is not None else None):
        return
    _check_levels(teacher, term.teacher_at or term.at, teacher_path, "teacher", checked)
    if family is not None and (closed := no_way_on(term, family, backbone)) is not None:
        checked.problems.append(closed.within(path))
    if family is not None and (pointless := headless_placebo(term, family)) is not None:
        checked.problems.append(pointless.within(path))
    if student is not None and student.arch is not None and family is not None:
        assert teacher is not None
        if (foreign := other_head(term, student.arch, teacher.arch)) is not None:
            checked.problems.append(foreign.within(path))
    own = student.strides() if student is not None else {}
    if (far := far_levels(term, own, teacher_strides(spec, checked))) is not None:
        checked.problems.append(far.within(path))
    if term.weight == 0:
        checked.note("distill.no_effect", "the term has weight 0: it trains nothing", f"{path}.weight")
    if term.method == "acam":
        if not term.spatial and not term.channel:
            hint = "leave one on; feature_mse is the same without masks"
            checked.refuse("distill.no_masks", "spatial and channel masks are both off", f"{path}.spatial", hint=hint)
        if term.masks == 1 and term.diversity_weight > 0:
            checked.note("distill.no_effect", "one mask has no pair: the diversity term is zero", f"{path}.masks")
    if term.method == "feature_mse_matched":
        _check_ratio(term.ratio, term.ratio_from, f"{path}.ratio_from", scope, checked)


def _check_ratio(ratio: Any, source: str | None, path: str, scope: Scope, checked: Checked) -> None:
    if (ratio is None) == (source is None):
        hint = "ratio_from: job:NAME of a finished ACAM-KD run"
        checked.refuse("distill.ratio", "give either ratio or ratio_from", path, hint=hint)
    elif source is not None and source.startswith("job:"):
        name = source.removeprefix("job:")
        try:
            found = network_of(scope.session, scope.caller, WeightsSpec(job=name), field=path)
        except CoreError as error:
            checked.problems.append(error.info)
            return
        checked.parents |= found.parents
        checked.inputs[f"ratio:{name}"] = found.input or {}
    elif source is not None:
        try:
            inside_roots(source, scope.settings, field=path, kind="file")
        except CoreError as error:
            checked.problems.append(error.info)
