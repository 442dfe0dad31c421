"""The public contract, free of torch: specs, events, errors."""

from acamkd_core.spec.errors import CoreError, ErrorInfo, SpecInvalid
from acamkd_core.spec.job import AnyJobSpec, InspectSpec, JobSpec, parse_job

__all__ = ["AnyJobSpec", "CoreError", "ErrorInfo", "InspectSpec", "JobSpec", "SpecInvalid", "parse_job"]
