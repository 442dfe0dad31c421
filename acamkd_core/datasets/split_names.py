"""What folders call their splits: ours are `train` and `val`, other tools write `valid` or `val2017`."""

from __future__ import annotations

from collections.abc import Callable

from acamkd_core.spec.datasets import Splits

_USUAL = {
    "train": ("train", "train2017", "train2014", "training"),
    "val": ("val", "valid", "validation", "val2017", "val2014"),
}


def named_splits(given: Splits, there: Callable[[str], bool]) -> Splits:
    """The splits of a folder: those that the spec names as they are, the others under the first usual name that is `there`."""
    found = {
        role: next((name for name in names if there(name)), getattr(given, role))
        for role, names in _USUAL.items()
        if role not in given.model_fields_set
    }
    changed = {role: name for role, name in found.items() if name != getattr(given, role)}
    return given.model_copy(update=changed) if changed else given
