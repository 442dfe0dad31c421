"""The SDK against a real server process."""

from __future__ import annotations

import subprocess
import sys
import threading
from datetime import UTC, datetime
from pathlib import Path

import pytest

from acamkd_core.client import ApiError, Client, Unreachable
from acamkd_core.client.series import Metric
from acamkd_core.spec.errors import CoreError
from acamkd_core.spec.job import JobSpec
from tests.acamkd_core.client.seed import Attempt
from tests.cli.running import TINY, RunningServer
from tests.services import free_ports


def test_the_sdk_needs_neither_torch_nor_numpy() -> None:
    code = (
        "import sys, acamkd_core.client; print(sorted({'torch', 'numpy', 'server', 'sqlalchemy'} & set(sys.modules)))"
    )
    shown = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert shown.stdout.strip() == "[]"


def test_a_spec_may_be_a_file_a_mapping_or_an_object(client: Client, tmp_path: Path) -> None:
    file = tmp_path / "job.yaml"
    file.write_text("dataset: scenes\nstudent: mobile_deeplabv3\noptimizer: {lr: 5e-3}\n")
    answer = client.jobs.create(file, set={"seed": 7, "distill": []}, dry_run=True)
    assert answer.id is None
    assert (answer.spec["optimizer"]["lr"], answer.spec["seed"]) == (0.005, 7)
    assert answer.summary[0].startswith("spec ")
    by_object = client.jobs.create(
        JobSpec.model_validate({"dataset": "scenes", "student": "mobile_deeplabv3"}), dry_run=True
    )
    assert by_object.spec["student"] == answer.spec["student"]
    assert client.jobs.list() == []  # nothing was kept


def test_one_key_makes_one_job(client: Client) -> None:
    first = client.jobs.create(TINY, idempotency_key="k1")
    again = client.jobs.create(TINY, idempotency_key="k1")
    assert again.id == first.id
    with pytest.raises(ApiError) as refused:
        client.jobs.create(TINY, set={"seed": 1}, idempotency_key="k1")
    assert refused.value.status == 409
    assert client.jobs.create(TINY).id != first.id  # a fresh key by default
    for job in client.jobs.list(state="queued"):
        client.jobs.cancel(job.name)


def test_mistakes_carry_field_and_status(client: Client) -> None:
    with pytest.raises(ApiError) as refused:
        client.jobs.create({**TINY, "studnt": 1, "seed": -1})
    assert refused.value.status == 422
    assert {problem.field for problem in refused.value.problems} == {"studnt", "seed"}
    with pytest.raises(ApiError) as missing:
        client.jobs.get("no-such-job")
    assert (missing.value.status, missing.value.code) == (404, "job.not_found")


def test_a_job_from_birth_to_end(client: Client) -> None:
    job = client.jobs.create(TINY, set={"name": "life", "tags": ["t1"]})
    assert job.pause().state == "paused"
    assert job.resume().state == "queued"
    assert job.update(notes="hello").info.notes == "hello"
    with pytest.raises(TimeoutError):
        job.wait(timeout=0.3)
    assert job.cancel().wait(timeout=5).state == "cancelled"
    retried = job.retry(set={"optimizer.lr": 0.5})
    cloned = job.clone(set={"seed": 3}, name="life-clone")
    assert retried.info.retry_of == job.id
    assert retried.spec().spec["optimizer"]["lr"] == 0.5
    differing = {one["path"]: one["values"] for one in client.compare("life", "life-clone").differing}
    assert differing == {"seed": [0, 3]}
    names = {row.name for row in client.jobs.list(q="life")}
    assert names == {"life", retried.name, "life-clone"}
    # Pages of one row add up to the same list.
    first = client.jobs.page(q="life", limit=1)
    second = client.jobs.page(q="life", limit=1, cursor=first.next_cursor)
    assert first.total == 3
    assert first.items[0].id != second.items[0].id
    for one in (retried, cloned):
        one.cancel()


def test_series_are_what_the_run_reported(client: Client, server: RunningServer) -> None:
    job = client.jobs.create(TINY, set={"name": "series"})
    attempt = Attempt(server.data)
    assert attempt.claim.job_id == job.id
    values = [(step, step / 10) for step in range(50)]
    attempt.report(points=[("loss/task", step, value) for step, value in values] + [("kd/share", 3, None)])
    attempt.report(progress={"iteration": 49, "iterations": 50, "stage": "train"}, metrics={"val/miou": 41.5})
    attempt.report(logs=[(datetime.now(UTC), "info", f"line {n}") for n in range(30)])
    series = job.metrics("loss/task")
    assert list(series) == values
    assert series.to_dict() == {
        "name": "loss/task", "job": "series", "iteration": [float(s) for s, _ in values], "value": [v for _, v in values],
    }  # fmt: skip
    assert job.metrics("kd/share").y == [None]
    assert job.metrics("loss/task", after=47).x == [48, 49]
    assert set(job.all_metrics("loss/*")) == {"loss/task"}
    with pytest.raises(CoreError, match="no metric 'val/mio'"):
        job.metrics("val/mio")
    assert [line["text"] for line in job.logs(tail=2)] == ["line 28", "line 29"]

    seen: list[tuple[str, int]] = []
    timer = threading.Timer(0.5, attempt.succeed)
    timer.start()
    texts = [line["text"] for line in job.logs(follow=True)]
    assert texts[:30] == [f"line {n}" for n in range(30)]
    job.wait(progress=lambda info: seen.append((info.state, info.progress.iteration)), timeout=20)
    assert (job.state, job.results["val/miou"], seen[-1]) == ("succeeded", 41.5, ("succeeded", 49))


def test_a_key_is_taken_as_files_hold_it_and_never_shown(server: RunningServer) -> None:
    with pytest.raises(CoreError) as refused:
        Client(server.url, "acamkd_secret\nX-Evil: 1")
    assert refused.value.code == "client.api_key"
    assert "secret" not in str(refused.value)
    with Client(server.url, " acamkd_secret\n") as client, pytest.raises(ApiError) as unknown:
        client.jobs.list()
    assert unknown.value.status == 401


def test_pandas_is_asked_for_in_words(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "pandas", None)  # as if it were not installed
    with pytest.raises(CoreError, match="pandas, which is not installed") as missing:
        Metric("val/miou", "j", "iteration", [1.0], [None]).to_pandas()
    assert missing.value.info.hint == "pip install pandas"


def test_progress_in_a_log_file_is_lines_and_few_of_them(client: Client, capsys: pytest.CaptureFixture[str]) -> None:
    job = client.jobs.create({**TINY, "name": "logged"})
    with pytest.raises(TimeoutError):
        job.wait(progress=True, timeout=1.5)
    job.cancel().wait(progress=True)
    assert capsys.readouterr().err == "logged  queued\nlogged  cancelled\n"


def test_events_survive_a_restart_of_the_server(client: Client, server: RunningServer) -> None:
    job = client.jobs.create(TINY, set={"name": "stream"})
    attempt = Attempt(server.data)
    attempt.report(events=[("alarm", {"n": n}) for n in range(20)])

    def outage() -> None:
        server.stop()
        attempt.report(events=[("alarm", {"n": n}) for n in range(20, 40)])  # written while nobody listens
        server.start()
        attempt.succeed()

    thread = threading.Thread(target=outage)
    events = []
    for event in job.events():
        events.append(event)
        if event.kind == "alarm" and event.data["n"] == 5:
            thread.start()
    thread.join()
    assert [event.data["n"] for event in events if event.kind == "alarm"] == list(range(40))
    numbers = [event.seq for event in events]
    assert numbers == sorted(set(numbers))
    assert events[-1].kind == "result"
    # Afterwards: from the middle, and from the end.
    assert [event.seq for event in job.events(after=numbers[-2])] == numbers[-1:]
    assert list(job.events(after=numbers[-1])) == []


def test_nobody_there() -> None:
    [port] = free_ports(1)
    with Client(f"http://127.0.0.1:{port}") as lonely:
        assert not lonely.alive()
        with pytest.raises(Unreachable) as raised:
            lonely.jobs.list()
    assert raised.value.code == "server.unreachable"
    with pytest.raises(CoreError, match="not a server's address"):
        Client("localhost:8080")
