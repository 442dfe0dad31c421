"""What a job's processes may see of the worker's environment: an allow-list, so that no secret reaches a run."""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path

import acamkd_core

# Exact names and prefixes that a numerical program needs to run as it does in the user's shell.
_NAMES = frozenset(
    {
        "PATH", "HOME", "USER", "LOGNAME", "SHELL", "LANG", "LANGUAGE", "TZ", "TMPDIR", "TEMP", "TMP",
        "VIRTUAL_ENV", "LD_LIBRARY_PATH", "LD_PRELOAD", "PYTHONPATH", "PYTHONHASHSEED", "PYTHONDONTWRITEBYTECODE",
        "XDG_CACHE_HOME", "TORCH_HOME", "HF_HOME", "HF_ENDPOINT", "HF_HUB_OFFLINE",
        "SSL_CERT_FILE", "SSL_CERT_DIR",
    }
)  # fmt: skip
_PREFIXES = (
    "LC_",
    "OMP_",
    "MKL_",
    "OPENBLAS_",
    "KMP_",
    "NCCL_",
    "GLOO_",
    "CUBLAS_",
    "MALLOC_",
    "CUDA_",
    "NVIDIA_",
    "PYTORCH_",
    "TORCHINDUCTOR_",
)

# No blocks of their own for large tensors, and freed memory is kept (up to 4 GiB at the heap's end). Read by glibc only.
KEEP_MEMORY = {
    "MALLOC_MMAP_MAX_": "0",
    "MALLOC_TRIM_THRESHOLD_": "4000000000",
    "MALLOC_TOP_PAD_": "100000000",
}

JOB_VARIABLE = "ACAMKD_JOB_ID"
ATTEMPT_VARIABLE = "ACAMKD_ATTEMPT"


def child_environment(
    job: str, attempt: int, devices: tuple[str, ...], source: Mapping[str, str] | None = None
) -> dict[str, str]:
    """The environment of one attempt.

    Args:
        job: id of the job; every process of the attempt carries it, so that none can be overlooked in a kill.
        attempt: number of the attempt.
        devices: GPUs of the slot; empty hides all of them.
    """
    source = os.environ if source is None else source
    kept = {name: value for name, value in source.items() if name in _NAMES or name.startswith(_PREFIXES)}
    kept[JOB_VARIABLE] = job
    kept[ATTEMPT_VARIABLE] = str(attempt)
    kept["PYTHONUNBUFFERED"] = "1"
    # Threads that wait by spinning steal the cores of server and database: with two cores and some load beside it, a
    # training step took 2.4 to 3.3 times as long as with threads that sleep.
    kept.setdefault("OMP_WAIT_POLICY", "PASSIVE")
    # glibc gives every large block back to the kernel and asks for it anew, page by page, at each step: on CPUs that was a
    # tenth to a quarter of a detector's training time (`python -m benchmarks.allocator`).
    for name, value in KEEP_MEMORY.items():
        kept.setdefault(name, value)
    kept["CUDA_VISIBLE_DEVICES"] = ",".join(devices)
    # The child runs in the attempt's folder: the package must be found there also when it was never installed.
    home = str(Path(acamkd_core.__file__).resolve().parent.parent)
    kept["PYTHONPATH"] = os.pathsep.join([home, *filter(None, [kept.get("PYTHONPATH")])])
    return kept
