"""Whether two specs ask for the same run."""

from __future__ import annotations

import hashlib
import json

from pydantic import ValidationError

from acamkd_core.spec.job import JobSpec


def digest(spec: JobSpec) -> str:
    """Digest of what decides a run's numbers. Names, notes, limits and loader processes do not."""
    data = spec.model_dump(mode="json")
    for name in ("name", "tags", "notes", "resources", "exports", "reference"):
        data.pop(name)
    data["batch"].pop("workers")
    return hashlib.sha256(json.dumps(data, sort_keys=True).encode()).hexdigest()[:16]


def is_same_run(written: str, spec: JobSpec) -> bool:
    """Whether `spec` goes on with the run whose spec was written down as JSON, maybe by an earlier version.

    Fields that have come since take their defaults, which keep what was before; what was written stays as it was,
    also where a default has changed since.
    """
    try:
        return digest(JobSpec.model_validate_json(written)) == digest(spec)
    except ValidationError:  # a field has gone since: nobody knows what the run would be now
        return False
