"""Downloads with ranges, pictures, and files that are gone."""

from __future__ import annotations

import hashlib
from typing import Any

import httpx
from sqlalchemy import insert

from server.artifacts.download import disposition, parse_range
from server.db.base import new_id
from server.db.session import write_session
from server.db.tables import Panel
from tests.server.api.conftest import World
from tests.server.factories import make_artifact, make_job
from tests.services import S3

API = "/api/v1"


def stored(world: World, content: bytes, **more: Any) -> str:
    """A blob in the store with its row, as a worker leaves it."""
    file = world.roots / "blob"
    file.write_bytes(content)
    sha256, size = world.context.blobs.put_file(file)
    with write_session(world.context.engine) as session:
        return f"{API}/artifacts/{make_artifact(session, None, sha256, size, **more).id}"


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
        artifact = make_artifact(session, job.id, "cd" * 32, 10).id
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
        row = make_artifact(session, None, "ab" * 32, 10)
    answer = world.client.get(f"{API}/artifacts/{row.id}/download")
    assert (answer.status_code, answer.json()["code"]) == (404, "storage.missing")


def test_names_in_headers_cannot_break_out() -> None:
    text = disposition('a/../ü"\r\nX: y.onnx', inline=False)
    assert "\r" not in text
    assert "\n" not in text
    assert text.count('"') == 2
    assert parse_range("bytes=0-0", 1) == (0, 1)
