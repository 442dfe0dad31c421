"""Which class implements which `method`. A new method is one file, its options in the spec, and one line here."""

from __future__ import annotations

from acamkd_core.methods.acam import Acam
from acamkd_core.methods.base import LevelPair, Method
from acamkd_core.methods.cankd import Cankd
from acamkd_core.methods.crosskd import Crosskd
from acamkd_core.methods.cwd import Cwd
from acamkd_core.methods.diffkd import Diffkd
from acamkd_core.methods.feature_mse import FeatureMSE, FeatureMSEMatched
from acamkd_core.methods.fgd import Fgd
from acamkd_core.methods.freekd import Freekd
from acamkd_core.methods.logit import Logit
from acamkd_core.methods.maskd import Maskd
from acamkd_core.methods.mgd import Mgd
from acamkd_core.methods.pkd import Pkd
from acamkd_core.spec.methods import MethodTerm

METHODS: dict[str, type[Method]] = {}


def register(method: type[Method]) -> type[Method]:
    """Make a method known under its `name`.

    Raises:
        ValueError: the name is taken. Two methods of one name are a bug, not a user's mistake.
    """
    if method.name in METHODS:
        raise ValueError(f"method {method.name!r} is registered twice")
    METHODS[method.name] = method
    return method


for _method in (Acam, Logit, FeatureMSE, FeatureMSEMatched, Cwd, Pkd, Mgd, Maskd, Fgd, Cankd, Crosskd, Freekd, Diffkd):
    register(_method)


def build_method(term: MethodTerm, pairs: list[LevelPair], *, num_classes: int) -> Method:
    """The method of one `distill` entry, freshly initialised from the global random state.

    Raises:
        CoreError: the options do not fit these levels (see the method).
    """
    return METHODS[term.method](term, pairs, num_classes=num_classes)
