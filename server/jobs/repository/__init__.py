"""All SQL about jobs. Every function takes a session of the caller's unit of work and commits nothing.

Readers take `project_id` (the caller's scope). Writers of a worker take `(job_id, attempt)` and raise `Fenced`
as soon as that attempt is no longer the running one.
"""

from server.jobs.repository.events import (
    JobHead,
    event_heads,
    events_after,
    events_of_kinds,
    first_of_kind,
    job_heads,
    logs_after,
    record_event,
)
from server.jobs.repository.finders import find_idempotent, queued_total, recent_runs
from server.jobs.repository.lease import (
    Beat,
    Claim,
    Lease,
    claim,
    end_involuntarily,
    finish,
    heartbeat,
    list_leases,
    reap,
    release,
    set_pid,
)
from server.jobs.repository.locks import Fenced
from server.jobs.repository.records import (
    NewJob,
    create,
    dependencies,
    get,
    list_attempts,
    list_jobs,
    lock,
    names_taken,
    queue_position,
    request_cancel,
    request_pause,
    resume,
    state_counts,
    update_labels,
)
from server.jobs.repository.report import Report, write_report
from server.jobs.repository.series import metric_names, read_series, series_mean

__all__ = [
    "Beat",
    "Claim",
    "Fenced",
    "JobHead",
    "Lease",
    "NewJob",
    "Report",
    "claim",
    "create",
    "dependencies",
    "end_involuntarily",
    "event_heads",
    "events_after",
    "events_of_kinds",
    "find_idempotent",
    "finish",
    "first_of_kind",
    "get",
    "heartbeat",
    "job_heads",
    "list_attempts",
    "list_jobs",
    "list_leases",
    "lock",
    "logs_after",
    "metric_names",
    "names_taken",
    "queue_position",
    "queued_total",
    "read_series",
    "reap",
    "recent_runs",
    "record_event",
    "release",
    "request_cancel",
    "request_pause",
    "resume",
    "series_mean",
    "set_pid",
    "state_counts",
    "update_labels",
    "write_report",
]
