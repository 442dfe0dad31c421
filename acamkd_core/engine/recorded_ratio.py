"""The KD/MSE ratio that another run recorded, for the control that replays it."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path

from pydantic import ValidationError

from acamkd_core.spec.errors import CoreError
from acamkd_core.spec.methods import FeatureMSEMatchedTerm
from acamkd_core.spec.problems import problems_of


def recorded_ratio(
    term: FeatureMSEMatchedTerm, files: Mapping[str, Path], field_name: str
) -> tuple[tuple[int, float], ...]:
    """The (iteration, KD/MSE ratio) pairs that `ratio_from` names. `files`: reference to local file, as a worker hands them over.

    Raises:
        CoreError: `ratio.missing`, `ratio.unreadable`.
    """
    if term.ratio_from is None:
        raise CoreError(
            "ratio.missing",
            "feature_mse_matched needs `ratio` or `ratio_from`",
            hint="name a finished ACAM-KD job",
            field=field_name,
        )
    reference = term.ratio_from
    path = files.get(reference.replace("job:", "ratio:", 1)) or Path(reference)
    try:
        given = {**term.model_dump(exclude={"ratio_from"}), "ratio": json.loads(path.read_text())}
        pairs = FeatureMSEMatchedTerm.model_validate(given).ratio  # the rules of a ratio that a spec holds itself
    except ValidationError as error:
        raise _no_ratio(reference, problems_of(error, FeatureMSEMatchedTerm)[0].message, field_name) from None
    except (OSError, ValueError) as error:
        raise _no_ratio(reference, str(error), field_name) from None
    assert pairs is not None
    return pairs


def _no_ratio(reference: str, why: str, field_name: str) -> CoreError:
    return CoreError(
        "ratio.unreadable",
        f"no (iteration, ratio) pairs in {reference}: {why}",
        hint="a JSON list of [iteration, ratio] with rising iterations, as a finished run's kd/mse_ratio",
        field=field_name,
        value=reference,
    )
