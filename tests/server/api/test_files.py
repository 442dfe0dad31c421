"""Uploads from strangers, downloads with ranges, datasets and models."""

from __future__ import annotations

import hashlib
import io
import os
import shutil
import stat
import struct
import time
import tracemalloc
import zipfile
from pathlib import Path
from typing import Any

import httpx
import pytest
from sqlalchemy import event, insert
from sqlalchemy.exc import OperationalError
from sqlalchemy.orm import Session

from acamkd_core.spec.errors import CoreError
from server.artifacts.download import disposition, parse_range
from server.datasets import repository as datasets
from server.datasets.leftovers import sweep_leftovers
from server.datasets.unpack import Limits, members_at_most, unpack
from server.db.base import DEFAULT_PROJECT, new_id
from server.db.session import write_session
from server.db.tables import Artifact, Dataset, Panel
from server.models import repository as models
from tests.server.api.conftest import World
from tests.server.factories import make_job
from tests.services import S3, small_disk

API = "/api/v1"
GOOD = {"camvid/images/train/a.png": b"x" * 100, "camvid/masks/train/a.png": b"y" * 50, "camvid/classes.json": b"{}"}


def packed(files: dict[str, bytes], *, compression: int = zipfile.ZIP_DEFLATED) -> bytes:
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w", compression) as archive:
        for name, content in files.items():
            archive.writestr(name, content)
    return buffer.getvalue()


def with_link() -> bytes:
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w") as archive:
        link = zipfile.ZipInfo("images/passwd")
        link.external_attr = (stat.S_IFLNK | 0o777) << 16
        archive.writestr(link, "/etc/passwd")
    return buffer.getvalue()


def lying() -> bytes:
    """A directory that claims 10 bytes for a member of 100,000."""
    content = packed({"images/a": b"\0" * 100_000}, compression=zipfile.ZIP_DEFLATED)
    at = content.index(b"PK\x01\x02")
    return content[: at + 24] + struct.pack("<I", 10) + content[at + 28 :]


def long_directory(members: int, *, wide: bool = False, comment: bytes = b"") -> bytes:
    """An archive that is nothing but a directory, with end records as writers of 32 and of 64 bits make them."""
    entry = b"PK\x01\x02" + struct.pack("<6H3L5H2L", 20, 20, 0, 0, 0, 0, 0, 0, 0, 1, 0, 0, 0, 0, 0, 0) + b"a"
    directory = entry * members
    records = b""
    if wide:
        records = b"PK\x06\x06" + struct.pack("<Q2H2L4Q", 44, 45, 45, 0, 0, members, members, len(directory), 0)
        records += b"PK\x06\x07" + struct.pack("<LQL", 0, len(directory), 1)
    size = 0xFFFFFFFF if wide else len(directory)
    return directory + records + b"PK\x05\x06" + struct.pack("<4H2LH", 0, 0, 1, 1, size, 0, len(comment)) + comment


@pytest.mark.parametrize("wide", [False, True])
def test_members_are_counted_before_any_is_made(wide: bool) -> None:
    for members in (1, 70_000):
        content = long_directory(members, wide=wide, comment=b"no end record: PK\x05\x06")
        assert members_at_most(io.BytesIO(content)) == members
        assert members_at_most(io.BytesIO(packed(GOOD))) == len(GOOD)
    assert members_at_most(io.BytesIO(b"PK\x05\x06")) == 0
    limits = Limits(files=1000, unpacked_bytes=10**9, ratio=100)
    source = io.BytesIO(long_directory(70_000, wide=wide))
    tracemalloc.start()
    with pytest.raises(CoreError, match="more than 1000 members"):
        unpack(source, Path("never"), packed=1, limits=limits)
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert peak < 8 * 2**20, "a chunk or two, not 70,000 objects"


def upload(world: World, content: bytes, name: str = "up", **headers: str) -> Any:
    return world.client.post(
        f"{API}/datasets/upload?name={name}", content=content, headers={"content-type": "application/zip"} | headers
    )


def left_behind(world: World) -> list[str]:
    folder = world.context.settings.uploads_dir
    return sorted(str(path.relative_to(folder)) for path in folder.rglob("*")) if folder.exists() else []


def test_an_upload_becomes_a_dataset_with_its_inspection(world: World) -> None:
    answer = upload(world, packed(GOOD))
    assert answer.status_code == 201, answer.text
    info = answer.json()
    root = Path(info["root"])
    assert root.name == "camvid"
    assert (root / "images/train/a.png").read_bytes() == b"x" * 100
    assert not (root / "classes.json").stat().st_mode & 0o111
    assert info["state"] == "inspecting"
    job = world.client.get(f"{API}/jobs/{info['inspect_job']}").json()
    assert (job["kind"], job["state"], job["name"]) == ("inspect", "queued", "inspect-up")
    assert not [path for path in left_behind(world) if path.startswith(".")]
    assert upload(world, packed(GOOD)).json()["code"] == "dataset.name_taken"


@pytest.mark.parametrize(
    ("content", "code"),
    [
        (packed({"../evil": b"x"}), "upload.path"),
        (packed({"images/../../evil": b"x"}), "upload.path"),
        (packed({"/etc/evil": b"x"}), "upload.path"),
        (packed({"C:/evil": b"x"}), "upload.path"),
        (packed({"a\\..\\evil": b"x"}), "upload.path"),
        (packed({"a" * 300: b"x"}), "upload.path"),
        (packed({"/".join("d" * 20): b"x"}), "upload.path"),
        (packed({"images": b"x", "images/a": b"x"}), "upload.path"),
        (with_link(), "upload.link"),
        (packed({"images/a": b"\0" * 5_000_000}), "upload.ratio"),
        (packed({f"images/{i}": b"" for i in range(60)}), "upload.too_many_files"),
        (packed({"images/a": bytes(range(256)) * 24_000}, compression=zipfile.ZIP_STORED), "upload.too_large"),
        (lying(), "upload.not_a_zip"),
        (packed(GOOD)[:-30], "upload.not_a_zip"),
        (b"not a zip", "upload.not_a_zip"),
        (packed({}), "upload.empty"),
        (packed({"a": b"x"}, compression=zipfile.ZIP_LZMA), "upload.compression"),
    ],
)
def test_hostile_archives_leave_nothing(make_world: Any, content: bytes, code: str) -> None:
    world = make_world(max_unpacked_files=50, max_unpacked_bytes=6_000_000)
    answer = upload(world, content)
    assert answer.json()["code"] == code, answer.text
    assert left_behind(world) == []
    assert world.client.get(f"{API}/datasets").json()["total"] == 0
    assert world.client.get(f"{API}/jobs").json()["total"] == 0
    assert not (world.context.settings.data_dir / "evil").exists()


def test_upload_limits_and_types(make_world: Any) -> None:
    world = make_world(max_upload_bytes=2000)
    assert upload(world, b"x" * 3000).status_code == 413
    chunked = world.client.post(
        f"{API}/datasets/upload?name=c", content=iter([b"x" * 1500] * 3), headers={"content-type": "application/zip"}
    )
    assert chunked.status_code == 413
    typed = world.client.post(f"{API}/datasets/upload?name=c", content=b"x", headers={"content-type": "text/plain"})
    assert typed.status_code == 415
    assert upload(world, packed(GOOD), name="../up").status_code == 422
    assert left_behind(world) == []


def test_an_upload_whose_commit_fails_leaves_nothing(world: World) -> None:
    def fail(session: Session) -> None:
        if any(isinstance(one, Dataset) for one in session.identity_map.values()):
            raise OperationalError("COMMIT", {}, Exception("disk I/O error"))

    event.listen(Session, "before_commit", fail)
    try:
        answer = upload(world, packed(GOOD))
    finally:
        event.remove(Session, "before_commit", fail)
    assert answer.status_code == 503
    assert left_behind(world) == []


def test_a_full_disk_keeps_nothing_of_an_upload(make_world: Any, tmp_path: Path, migrated: Path) -> None:
    with small_disk(tmp_path / "small", 6) as disk:
        shutil.copy(migrated, disk / "acamkd.db")
        world = make_world(data_dir=disk)
        stays = make_job(world.context.engine, name="before").id
        noise = {f"images/{name}": os.urandom(2_000_000) for name in range(4)}
        for content in (packed(noise), packed(GOOD)):  # no room to receive it; no room to unpack it with some to spare
            answer = upload(world, content)
            assert (answer.status_code, answer.json()["code"]) == (507, "upload.disk_full")
            assert left_behind(world) == []
        assert world.client.get(f"{API}/jobs/{stays}").status_code == 200
        assert world.client.post(f"{API}/jobs/before/cancel").status_code == 200
        world.context.engine.dispose()


def test_what_a_killed_server_left_of_uploads_is_swept_and_nothing_else(world: World) -> None:
    kept = Path(upload(world, packed(GOOD)).json()["root"]).parent
    folder = kept.parent
    (folder / f"half-{new_id()}" / "images").mkdir(parents=True)
    (folder / f".incoming-{new_id()}.zip").write_bytes(b"PK")
    (folder / "an-operator-s-own").mkdir()
    sweep = lambda: sweep_leftovers(world.context.engine, folder)
    assert sweep() == [], "they may still be coming in"
    for path in folder.iterdir():
        os.utime(path, (time.time() - 25 * 3600,) * 2)
    assert [name.partition("-")[0] for name in sweep()] == [".incoming", "half"]
    assert sorted(path.name for path in folder.iterdir()) == sorted([kept.name, "an-operator-s-own"])


def test_datasets_by_path_and_what_jobs_may_do_with_them(world: World) -> None:
    (world.roots / "camvid").mkdir()
    made = world.client.post(f"{API}/datasets", json={"name": "camvid", "path": "camvid"})
    assert made.status_code == 201
    outside = world.client.post(f"{API}/datasets", json={"name": "x", "path": "/etc"})
    assert (outside.status_code, outside.json()["field"]) == (422, "path")
    spec = {"dataset": "dataset:camvid", "student": "mobile_deeplabv3", "schedule": {"iterations": 5}}
    post = lambda body: world.client.post(f"{API}/jobs", json=body)
    assert post(spec).json()["code"] == "dataset.not_inspected"
    assert post(spec | {"dataset": "dataset:nope"}).json()["code"] == "dataset.unknown"
    again = world.client.post(f"{API}/datasets/camvid/inspect")
    assert again.status_code == 409
    report = {
        "digest": "3f9c1eaa",
        "task": "semantic_segmentation",
        "ignore_id": 11,
        "findings": [{"severity": "warning", "code": "w", "message": "m", "count": 1}],
        "splits": [{"role": "train", "images": 367}, {"role": "val", "images": 101}, {"role": "test", "images": 233}],
        "classes": [{"index": i, "id": i, "name": name} for i, name in enumerate(("sky", "road"))],
    }
    with write_session(world.context.engine) as session:
        datasets.apply_inspection(session, inspect_job=made.json()["inspect_job"], report=report, contact_sheet=None)
    ready = post(spec).json()
    assert ready["spec"]["dataset"]["root"] == str((world.roots / "camvid").resolve())
    assert ready["summary"][1] == "data   camvid@3f9c1e  367/101/233  2 classes  ignore 11  1 warning"
    assert world.client.get(f"{API}/datasets/camvid@3f9c").status_code == 200
    assert post(spec | {"dataset": "dataset:camvid@beef"}).json()["code"] == "dataset.version"
    assert post(spec | {"batch": {"global_size": 400}}).json()["code"] == "batch.too_many"

    job = make_job(world.context.engine, name="producer", spec={"student": {"arch": {"family": "mobile_deeplabv3"}}})
    with write_session(world.context.engine) as session:
        artifact = _artifact(session, job.id, "0" * 64, 1)
        for classes in (["sky", "road"], ["road", "sky"], ["sky", "road", "car"]):
            models.register(
                session, project_id=DEFAULT_PROJECT, name=f"m{len(classes)}{classes[0]}", job_id=new_id(),
                artifact_id=artifact.id, arch="a", task="semantic_segmentation", classes=classes,
            )  # fmt: skip
    teach = lambda ref: post(spec | {"teacher": f"model:{ref}", "distill": "acam"})
    assert teach("m2sky").status_code == 201
    assert "another order" in teach("m2road").json()["message"]
    assert "3 classes (sky, road, car), the dataset has 2 (sky, road)" in teach("m3sky@latest").json()["message"]
    assert teach("nobody").json()["code"] == "teacher.unknown"

    alias = world.client.put(f"{API}/models/m2sky/aliases/champion", json={"version": 1})
    assert alias.json()["aliases"] == ["champion", "latest"]
    assert teach("m2sky@champion").status_code == 201
    stranger = world.stranger()
    for method, path in (("PUT", "m2sky/aliases/x"), ("GET", "m2sky"), ("DELETE", "m2sky/aliases/champion")):
        body = {"json": {"version": 1}} if method == "PUT" else {}
        assert world.client.request(method, f"{API}/models/{path}", headers=stranger, **body).status_code == 404
    assert world.client.delete(f"{API}/models/m2sky/aliases/champion").json()["aliases"] == ["latest"]
    assert world.client.delete(f"{API}/models/m2sky/aliases/champion").status_code == 404
    assert world.client.get(f"{API}/models?name=m2sky").json()["total"] == 1


def _artifact(session: Session, job_id: str | None, sha256: str, size: int, **more: Any) -> Artifact:
    values: dict[str, Any] = {"kind": "export", "name": f"{new_id()}.onnx", "format": "onnx"} | more
    row = Artifact(project_id=DEFAULT_PROJECT, job_id=job_id, sha256=sha256, bytes=size, **values)
    session.add(row)
    session.flush()
    return row


def stored(world: World, content: bytes, **more: Any) -> str:
    """A blob in the store with its row, as a worker leaves it."""
    file = world.roots / "blob"
    file.write_bytes(content)
    sha256, size = world.context.blobs.put_file(file)
    with write_session(world.context.engine) as session:
        return f"{API}/artifacts/{_artifact(session, None, sha256, size, **more).id}"


def test_downloads_answer_ranges_and_validators(world: World) -> None:
    content = bytes(range(256)) * 1000
    url = stored(world, content, name="model 1.onnx")
    whole = world.client.get(f"{url}/download")
    digest = hashlib.sha256(content).hexdigest()
    assert (whole.status_code, whole.content, whole.headers["etag"]) == (200, content, f'"{digest}"')
    assert (
        whole.headers["content-disposition"] == "attachment; filename=\"model_1.onnx\"; filename*=UTF-8''model%201.onnx"
    )
    get = lambda **headers: world.client.get(
        f"{url}/download", headers={k.replace("_", "-"): v for k, v in headers.items()}
    )
    for header, part, span in (
        ("bytes=0-9", content[:10], "bytes 0-9/256000"),
        ("bytes=255990-", content[-10:], "bytes 255990-255999/256000"),
        ("bytes=-3", content[-3:], "bytes 255997-255999/256000"),
        ("bytes=255999-999999", content[-1:], "bytes 255999-255999/256000"),
    ):
        answer = get(Range=header)
        assert (answer.status_code, answer.content, answer.headers["content-range"]) == (206, part, span)
    beyond = get(Range="bytes=256000-")
    assert (beyond.status_code, beyond.headers["content-range"]) == (416, "bytes */256000")
    for ignored in ("bytes=0-1,5-6", "items=0-1", "bytes=9-1", "bytes=-"):
        assert get(Range=ignored).status_code == 200
    assert get(If_None_Match=f'"{digest}"').status_code == 304
    assert get(Range="bytes=0-9", If_Range='"other"').status_code == 200
    assert get(Range="bytes=0-9", If_Range=f'"{digest}"').status_code == 206
    stranger = world.stranger()
    assert world.client.get(url, headers=stranger).status_code == 404
    assert world.client.get(f"{url}/download", headers=stranger).status_code == 404
    assert world.client.get(url).json()["sha256"] == digest


def test_a_store_that_signs_hands_the_bytes_out_itself(make_world: Any, s3: S3) -> None:
    store = {
        "storage_url": f"s3://{s3.bucket}/signed-{new_id()}",
        "storage_endpoint": s3.endpoint,
        "storage_presign": True,
    }
    world = make_world(**store, storage_key_id=s3.key_id, storage_secret=s3.secret)
    content = bytes(range(256)) * 100
    model = f"{stored(world, content, name='a b.onnx')}/download"
    sent = world.client.get(model, follow_redirects=False)
    assert (sent.status_code, sent.headers["cache-control"]) == (307, "no-store")
    fetched = httpx.get(sent.headers["location"], headers={"Range": "bytes=5-9"})
    assert (fetched.status_code, fetched.content) == (206, content[5:10])
    assert "a%20b.onnx" in fetched.headers["content-disposition"]
    assert world.client.get(model, headers=world.stranger(), follow_redirects=False).status_code == 404
    # pictures come from the server: the content policy lets pages show no other host's
    picture = stored(world, b"\x89PNG", kind="panel", name="p.png", format="png")
    assert world.client.get(f"{picture}/download?inline=1", follow_redirects=False).content == b"\x89PNG"


def test_only_pictures_are_shown_inline(world: World) -> None:
    picture = stored(world, b"\x89PNG", kind="panel", name="p.png", format="png")
    page = stored(world, b"<script>alert(1)</script>", kind="report", name="r.html", format="html")
    shown = world.client.get(f"{picture}/download?inline=1")
    assert shown.headers["content-type"] == "image/png"
    assert shown.headers["content-disposition"].startswith("inline")
    kept = world.client.get(f"{page}/download?inline=1")
    assert kept.headers["content-type"] == "application/octet-stream"
    assert kept.headers["content-disposition"].startswith("attachment")
    assert kept.headers["x-content-type-options"] == "nosniff"


def test_a_long_run_shows_its_newest_pictures_and_any_older_one(world: World) -> None:
    job = make_job(world.context.engine)
    evaluations, images, masks = list(range(50, 8050, 50)), [3, 7], 12
    with write_session(world.context.engine) as session:
        artifact = _artifact(session, job.id, "cd" * 32, 10).id
        shared = {"job_id": job.id, "artifact_id": artifact, "caption": "", "stats": {}, "attempt": 1}
        kinds = [("prediction", 0), *(("mask_spatial", number) for number in range(masks))]
        places = [(at, image, *kind) for at in evaluations for image in images for kind in kinds]
        places += [(50, image, kind, 0) for image in images for kind in ("image", "truth")]
        rows = [{"iteration": at, "image": i, "kind": kind, "index": n, **shared} for at, i, kind, n in places]
        session.execute(insert(Panel), rows)
    url = f"{API}/jobs/{job.id}/panels"
    index = world.client.get(f"{url}/index").json()
    assert (index["iterations"], index["images"]) == (evaluations, images)
    assert {(one["image"], one["kind"]) for one in index["once"]} == {
        (i, k) for i in images for k in ("image", "truth")
    }
    everything = world.client.get(url).json()
    assert (len(everything["items"]), everything["total"]) == (2000, len(rows))
    assert everything["items"][0]["iteration"] == 8000
    middle = world.client.get(url, params={"iteration": 4000, "image": 7}).json()
    assert middle["total"] == len(middle["items"]) == 1 + masks
    chosen = world.client.get(url, params={"iteration": 50, "kind": ["prediction", "truth"]}).json()
    assert [(one["image"], one["kind"]) for one in chosen["items"]] == [
        (image, kind) for image in images for kind in ("prediction", "truth")
    ]


def test_a_blob_that_is_gone_is_a_404_and_not_an_empty_file(world: World) -> None:
    with write_session(world.context.engine) as session:
        row = _artifact(session, None, "ab" * 32, 10)
    answer = world.client.get(f"{API}/artifacts/{row.id}/download")
    assert (answer.status_code, answer.json()["code"]) == (404, "storage.missing")


def test_names_in_headers_cannot_break_out() -> None:
    text = disposition('a/../ü"\r\nX: y.onnx', inline=False)
    assert "\r" not in text
    assert "\n" not in text
    assert text.count('"') == 2
    assert parse_range("bytes=0-0", 1) == (0, 1)


def test_a_dataset_of_boxes_wants_a_detector(world: World) -> None:
    (world.roots / "cells").mkdir()
    made = world.client.post(f"{API}/datasets", json={"name": "cells", "path": "cells", "format": "coco"})
    assert made.status_code == 201
    report = {
        "digest": "beefbeef", "task": "detection", "ignore_id": None, "findings": [],
        "splits": [{"role": "train", "images": 20}, {"role": "val", "images": 9}],
        "classes": [{"index": 0, "id": 1, "name": "cell"}, {"index": 1, "id": 2, "name": "plate"}],
    }  # fmt: skip
    with write_session(world.context.engine) as session:
        datasets.apply_inspection(session, inspect_job=made.json()["inspect_job"], report=report, contact_sheet=None)
    spec = {"dataset": "dataset:cells", "student": "retinanet-mobilenet_v2", "schedule": {"iterations": 5}}
    post = lambda body: world.client.post(f"{API}/jobs", json=body)
    ready = post(spec).json()
    assert ready["spec"]["task"] == "detection"
    assert ready["spec"]["dataset"]["format"] == "coco"
    taught = post(
        spec | {"teacher": {"arch": "retinanet-r50-fpn", "weights": "job:" + ready["name"]}, "distill": "acam"}
    )
    assert taught.status_code == 201, taught.text
    assert taught.json()["spec"]["distill"][0]["at"] == ["p3", "p4", "p5", "p6", "p7"]
    wrong = post(spec | {"student": "mobile_deeplabv3"}).json()
    assert (wrong["code"], wrong["field"], wrong["hint"]) == ("task.differs", "dataset", "set task to detection")
    level = post(spec | {"teacher": "job:" + ready["name"], "distill": {"method": "acam", "at": "logits"}}).json()
    assert (level["code"], level["value"]) == ("distill.level", "logits")
    assert "p7" in level["hint"]
