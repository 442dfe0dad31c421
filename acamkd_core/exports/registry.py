"""Format name to exporter: the format `x` of the spec is `EXPORTER` in the module `acamkd_core.exports.x`.

A new format is a class in `acamkd_core.spec.exports` (and in its union), a module here and a test.
"""

from __future__ import annotations

import importlib
from typing import get_args

from acamkd_core.exports.base import Exporter
from acamkd_core.spec.exports import ExportSpec


def formats() -> list[str]:
    """Names of all formats of the spec, sorted."""
    union = get_args(ExportSpec)[0] if get_args(ExportSpec) else ExportSpec
    options = get_args(union) or (union,)
    names = [get_args(option.model_fields["format"].annotation)[0] for option in options]
    if len(set(names)) != len(names):
        raise ValueError(f"two export formats share a name: {sorted(names)}")
    return sorted(names)


def exporter(name: str) -> Exporter:
    """The exporter of a format. A format without one is our mistake, so this is no CoreError."""
    if name not in formats():
        raise KeyError(f"no export format {name!r}; the spec knows {', '.join(formats())}")
    module = importlib.import_module(f"acamkd_core.exports.{name}")
    found: Exporter = module.EXPORTER
    return found
