"""The worker's small parts, each against the operating system or a clock that the test holds."""

from __future__ import annotations

import fcntl
import os
import platform
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path

import psutil
import pytest

from server.jobs.reaper import AwakeClock
from tests.worker.bench import until
from worker.child import Child, kernel_oom_kills
from worker.environment import KEEP_MEMORY, child_environment
from worker.folders import clear_the_dead, own_folder
from worker.processes import processes_of, record_child
from worker.settings import WorkerSettings, device_sets
from worker.slots import _NUDGE_SECONDS, Slots
from worker.tail import Tail


def test_tail_leaves_a_partial_line(tmp_path: Path) -> None:
    path = tmp_path / "events.jsonl"
    tail = Tail(path)
    assert tail.lines() == []
    path.write_bytes(b"one\ntwo\nthr")
    assert tail.lines() == [b"one", b"two"]
    assert tail.lines() == []
    with path.open("ab") as file:
        file.write(b"ee\n")
    assert tail.lines() == [b"three"]


@pytest.mark.parametrize(
    ("devices", "slots", "gpus", "expected"),
    [
        ("auto", 0, 0, [()]),
        ("auto", 3, 0, [(), (), ()]),
        ("auto", 0, 2, [("0",), ("1",)]),
        ("auto", 1, 2, [("0",)]),
        ("0,1;2,3", 0, 4, [("0", "1"), ("2", "3")]),
        ("cpu", 2, 4, [(), ()]),
    ],
)
def test_slots_own_device_sets(devices: str, slots: int, gpus: int, expected: list[tuple[str, ...]]) -> None:
    assert device_sets(devices, slots, gpus) == expected


def test_two_slots_never_share_a_gpu() -> None:
    with pytest.raises(ValueError, match="share a GPU"):
        device_sets("0;1", 3, 2)


def test_labels_come_from_the_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("ACAMKD_LABELS", "big, fast")
    monkeypatch.setenv("ACAMKD_CHILD_COMMAND", '["python", "-V"]')
    settings = WorkerSettings()
    assert settings.labels == ("big", "fast")
    assert settings.child_command == ("python", "-V")
    assert settings.beat_seconds < settings.renew_limit_seconds < settings.reap_after_seconds


def test_the_environment_is_an_allow_list() -> None:
    source = {
        "PATH": "/bin",
        "ACAMKD_BROKER_URL": "redis://:pw@x",
        "AWS_SECRET_ACCESS_KEY": "k",
        "OMP_NUM_THREADS": "2",
    }
    seen = child_environment("j", 3, ("1", "2"), source)
    assert seen.keys() >= {"PATH", "OMP_NUM_THREADS", "ACAMKD_JOB_ID", "ACAMKD_ATTEMPT"}
    assert not seen.keys() & {"ACAMKD_BROKER_URL", "AWS_SECRET_ACCESS_KEY"}
    assert seen["CUDA_VISIBLE_DEVICES"] == "1,2"


def test_a_job_keeps_freed_memory_unless_the_worker_is_told_otherwise() -> None:
    """glibc reads these at a process's start; without them it gives tensors back to the kernel at every step."""
    assert child_environment("j", 1, (), {}).items() >= KEEP_MEMORY.items()
    told = child_environment("j", 1, (), {"MALLOC_MMAP_MAX_": "65536"})
    assert told["MALLOC_MMAP_MAX_"] == "65536"
    script = (
        "import resource, torch\n"
        "work = lambda: [torch.ones(16_000_000) for _ in range(4)] and None\n"
        "[work() for _ in range(6)]\n"
        "before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt\n"
        "work(); work()\n"
        "print(resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before)"
    )
    faults = {}
    for name, extra in (("kept", {}), ("plain", {"MALLOC_MMAP_MAX_": "65536", "MALLOC_TRIM_THRESHOLD_": "131072"})):
        environment = child_environment("j", 1, (), {**os.environ, **extra})
        out = subprocess.run([sys.executable, "-c", script], env=environment, capture_output=True, check=True)
        faults[name] = int(out.stdout)
    assert faults["kept"] < faults["plain"] / 20 or platform.libc_ver()[0] != "glibc"


def test_a_stopped_process_has_not_watched() -> None:
    now = [0.0]
    clock = AwakeClock(longest=2.0, now=lambda: now[0])
    now[0] = 1.5
    assert clock.tick() == 1.5
    now[0] = 91.5  # 90 s of SIGSTOP
    assert clock.tick() == 3.5


def test_a_nudge_returns_when_a_slot_has_looked() -> None:
    looked: list[int] = []
    work = ["job"]
    begun, end = threading.Event(), threading.Event()

    def claim(slot: int) -> str | None:
        looked.append(slot)
        return work.pop() if work and len(looked) > 1 else None

    def run(_slot: int, _work: str) -> None:
        begun.set()
        end.wait(10)

    slots = Slots(1, claim, run, poll_seconds=600)
    slots.start()
    deadline = time.monotonic() + 60
    while not looked and time.monotonic() < deadline:
        time.sleep(0.01)
    slots.nudge()
    assert begun.wait(60)
    assert slots.free == 0
    before = time.monotonic()
    slots.nudge()  # all slots are busy: nothing to wait for
    assert time.monotonic() - before < _NUDGE_SECONDS
    end.set()
    assert slots.stop(5)


def test_an_orphan_is_ended_and_a_reused_pid_is_not(tmp_path: Path) -> None:
    sleeper = [sys.executable, "-c", "import time; time.sleep(100)"]
    environment = child_environment("orphan-of-this-test", 1, ())
    orphan = subprocess.Popen(sleeper, env=environment, start_new_session=True)
    innocent = subprocess.Popen(sleeper, start_new_session=True)
    try:
        until(lambda: len(processes_of("orphan-of-this-test")) == 1, 30)
        # b: the same pid, another start; c: the same pid and start, but on another machine: it does not carry the mark
        for name, process, shift in (("a", orphan, ""), ("b", innocent, "9"), ("c", innocent, "8")):
            folder = tmp_path / "dead" / "attempts" / name
            folder.mkdir(parents=True)
            record_child(folder, f"orphan-of-this-test{shift}", 1, process.pid)
        record = tmp_path / "dead" / "attempts" / "b" / "child.json"
        created = psutil.Process(innocent.pid).create_time()
        record.write_text(record.read_text().replace(str(created), str(created - 1000)))
        lock = (tmp_path / "dead" / "lock").open("w")
        fcntl.flock(lock, fcntl.LOCK_EX)
        assert clear_the_dead(tmp_path) == [], "its worker lives"
        lock.close()
        assert clear_the_dead(tmp_path) == [orphan.pid]
        assert orphan.wait(60) == -signal.SIGKILL
        heartbeat = tmp_path / "dead" / "heartbeat"
        for hours, left in ((0.5, 3), (2, 0)):  # what its attempts wrote goes once it has been silent for an hour
            heartbeat.touch()
            os.utime(heartbeat, (time.time() - hours * 3600,) * 2)
            assert clear_the_dead(tmp_path) == []
            assert len(list((tmp_path / "dead" / "attempts").iterdir())) == left
        assert innocent.poll() is None
    finally:
        for process in (orphan, innocent):
            process.kill()
            process.wait(5)


def test_closing_the_lifeline_and_killing_the_tree(tmp_path: Path) -> None:
    """A child whose grandchild has left its session; both carry the marks, both go."""
    script = tmp_path / "child.py"
    script.write_text(
        "import subprocess, sys, time\n"
        "subprocess.Popen([sys.executable, '-c', 'import time; time.sleep(100)'], start_new_session=True)\n"
        "print('ready', flush=True)\n"
        "sys.exit(0 if sys.stdin.buffer.read() == b'' else 1)\n"
    )
    job = f"tree-{os.getpid()}"
    child = Child([sys.executable, str(script)], tmp_path, child_environment(job, 1, ()), job, 1)
    deadline = time.monotonic() + 60
    while len(processes_of(job)) < 2 and time.monotonic() < deadline:
        time.sleep(0.05)
    assert len(processes_of(job)) == 2
    # nobody but this process may hold the write end, or a killed worker would leave its child running
    os.close(child._lifeline)
    child._lifeline = -1
    while child.poll() is None and time.monotonic() < deadline:
        time.sleep(0.02)
    assert child.poll() == 0
    child.close()
    assert processes_of(job) == []
    assert not child.out_of_memory()


def test_the_kernels_counter_is_readable_here() -> None:
    assert kernel_oom_kills() is not None


def test_a_second_worker_takes_another_folder(tmp_path: Path) -> None:
    first, lock = own_folder(tmp_path, "gpu box/1")
    second, other = own_folder(tmp_path, "gpu box/1")
    assert (first.name, second.name) == ("gpu-box-1", "gpu-box-1-2")
    lock.close()
    third, again = own_folder(tmp_path, "gpu box/1")
    assert third == first
    other.close()
    again.close()
