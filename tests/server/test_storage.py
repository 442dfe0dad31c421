"""The artifact store on a local folder and on a real S3-compatible server that checks signatures."""

from __future__ import annotations

import contextlib
import hashlib
import os
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path

import pytest

from acamkd_core.spec.errors import CoreError
from server.presign import Presigner
from server.settings import Settings
from server.storage import FRESH_SECONDS, RETIRED_SECONDS, Storage
from tests import services
from tests.services import S3

BIG = 11 * 1024 * 1024 + 17  # several parts of a multipart upload


@pytest.fixture(params=["local", "s3"])
def store(request: pytest.FixtureRequest, tmp_path: Path) -> Storage:
    if request.param == "local":
        return Storage(str(tmp_path / "blobs"))
    s3: S3 = request.getfixturevalue("s3")
    prefix = f"test-{time.time_ns()}"
    return Storage(f"s3://{s3.bucket}/{prefix}", endpoint=s3.endpoint, key_id=s3.key_id, secret=s3.secret, presign=True)


def write(path: Path, content: bytes) -> Path:
    path.write_bytes(content)
    return path


def test_a_file_comes_back_whole_and_in_ranges(store: Storage, tmp_path: Path) -> None:
    content = os.urandom(BIG)
    sha256, size = store.put_file(write(tmp_path / "in", content))
    assert (sha256, size) == (hashlib.sha256(content).hexdigest(), BIG)
    assert store.put_file(tmp_path / "in") == (sha256, size)
    assert store.size(sha256) == BIG
    assert [blob.sha256 for blob in store.blobs()] == [sha256]
    store.get_to_file(sha256, tmp_path / "out")
    assert (tmp_path / "out").read_bytes() == content
    for start, end in ((0, 1), (BIG - 1, BIG), (5_000_000, 9_000_001), (BIG - 3, BIG + 99), (BIG, None), (7, None)):
        assert b"".join(store.open_range(sha256, start, end)) == content[start:end], (start, end)
    store.delete(sha256)
    store.delete(sha256)
    assert store.size(sha256) is None


def test_an_empty_file_is_a_blob_too(store: Storage, tmp_path: Path) -> None:
    sha256, size = store.put_file(write(tmp_path / "empty", b""))
    assert (size, list(store.open_range(sha256))) == (0, [])
    store.get_to_file(sha256, tmp_path / "out")
    assert (tmp_path / "out").read_bytes() == b""


def test_what_is_missing_or_not_a_digest_is_refused_at_the_call(store: Storage, tmp_path: Path) -> None:
    for call in (lambda: store.open_range("0" * 64), lambda: store.get_to_file("0" * 64, tmp_path / "out")):
        with pytest.raises(CoreError) as missing:
            call()
        assert missing.value.code == "storage.missing"
    for bad in ("../../etc/passwd", "A" * 64, ""):
        with pytest.raises(CoreError) as refused:
            store.size(bad)
        assert refused.value.code == "storage.bad_digest"
    assert list(tmp_path.glob("*out*")) == []


def test_the_sweeper_takes_old_unnamed_blobs_only(store: Storage, tmp_path: Path) -> None:
    named, unnamed = (store.put_file(write(tmp_path / name, name.encode()))[0] for name in ("a", "b"))
    asked: list[str] = []

    def referenced(digests: object) -> set[str]:
        asked.extend(digests)  # type: ignore[call-overload]
        return {named}

    assert store.sweep(referenced) == []
    assert asked == [], "young blobs are not even asked about"
    assert store.sweep(referenced, retired=[unnamed]) == [], "a retired blob is spared for a while too"
    time.sleep(1.1)  # S3 tells times in whole seconds
    assert store.sweep(referenced, hours=0) == [unnamed]
    assert (store.size(named), store.size(unnamed)) == (1, None)


def test_a_damaged_blob_is_never_handed_on(tmp_path: Path) -> None:
    store = Storage(str(tmp_path / "blobs"))
    sha256, _ = store.put_file(write(tmp_path / "in", b"right"))
    write(tmp_path / "blobs" / sha256[:2] / sha256, b"wrong")
    write(tmp_path / "out", b"what was there")
    with pytest.raises(CoreError) as refused:
        store.get_to_file(sha256, tmp_path / "out")
    assert refused.value.code == "storage.corrupt"
    assert (tmp_path / "out").read_bytes() == b"what was there"


def test_an_old_blob_stored_again_is_young_again(tmp_path: Path) -> None:
    # else the sweeper could take it between put_file and the commit of its new row
    store = Storage(str(tmp_path / "blobs"))
    sha256, _ = store.put_file(write(tmp_path / "in", b"same bytes"))
    path = tmp_path / "blobs" / sha256[:2] / sha256
    os.utime(path, (time.time() - RETIRED_SECONDS - 1,) * 2)
    store.put_file(tmp_path / "in")
    assert store.sweep(lambda _: set(), retired=[sha256]) == []
    assert FRESH_SECONDS < RETIRED_SECONDS
    os.utime(path, (time.time() - RETIRED_SECONDS - 1,) * 2)
    assert store.sweep(lambda _: set()) == []
    assert store.sweep(lambda _: set(), retired=[sha256]) == [sha256]


def test_left_overs_of_a_killed_upload_are_invisible_and_swept(tmp_path: Path) -> None:
    store = Storage(str(tmp_path / "blobs"))
    sha256, _ = store.put_file(write(tmp_path / "in", b"whole"))
    part = write(tmp_path / "blobs" / sha256[:2] / f"{sha256}#1", b"wh")
    assert [blob.size for blob in store.blobs()] == [5]
    store.sweep(lambda digests: set(digests))
    assert part.exists()
    os.utime(part, (time.time() - 25 * 3600,) * 2)
    store.sweep(lambda digests: set(digests))
    assert not part.exists()


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    with services.small_disk(tmp_path / "small", 4) as folder:
        yield folder


def test_a_full_disk_is_a_clear_error_and_harms_nothing(small_disk: Path, tmp_path: Path) -> None:
    store = Storage(str(small_disk / "blobs"))
    kept, _ = store.put_file(write(tmp_path / "kept", os.urandom(2_200_000)))
    too_big = write(tmp_path / "too-big", os.urandom(3_000_000))
    with pytest.raises(CoreError) as full:
        store.put_file(too_big)
    assert full.value.code == "storage.full"
    assert [blob.sha256 for blob in store.blobs()] == [kept]
    store.get_to_file(kept, tmp_path / "back")
    assert (tmp_path / "back").read_bytes() == (tmp_path / "kept").read_bytes()
    small, _ = store.put_file(write(tmp_path / "small-one", b"fits"))
    assert store.size(small) == 4, "the failed upload left its space free"
    with pytest.raises(CoreError) as full:
        store.get_to_file(kept, small_disk / "copy")
    assert full.value.code == "storage.full"
    assert list(small_disk.glob("*copy*")) == []


def test_presigned_urls_carry_the_name_and_end(s3: S3, tmp_path: Path) -> None:
    url = f"s3://{s3.bucket}/signed"
    keys = {"endpoint": s3.endpoint, "key_id": s3.key_id}
    store = Storage(url, **keys, secret=s3.secret, presign=True)
    sha256, _ = store.put_file(write(tmp_path / "in", b"model"))
    signed = store.presigned_url(sha256, filename="küste & see.onnx")
    assert signed is not None
    with urllib.request.urlopen(signed) as answer:
        assert answer.read() == b"model"
        assert answer.headers["content-disposition"] == "attachment; filename*=UTF-8''k%C3%BCste%20%26%20see.onnx"
    forged = Storage(url, **keys, secret="wrong", presign=True).presigned_url(sha256, filename="a")
    old = Presigner(region="us-east-1", key_id=s3.key_id, secret=s3.secret)
    at = datetime(2026, 1, 1, tzinfo=UTC)
    expired = old.url(signed.split("?")[0], filename="a", seconds=60, now=at)
    for refused in (forged, expired, signed.replace("attachment", "inline")):
        assert refused is not None
        with pytest.raises(urllib.error.HTTPError, match="403"):
            urllib.request.urlopen(refused)
    assert Storage(url, **keys, secret=s3.secret).presigned_url(sha256, filename="a") is None


def test_wrong_keys_are_an_error_not_an_absence(s3: S3) -> None:
    store = Storage(f"s3://{s3.bucket}", endpoint=s3.endpoint, key_id=s3.key_id, secret="wrong")
    with pytest.raises(CoreError) as refused:
        store.size("0" * 64)
    assert refused.value.code == "storage.failed"


def test_settings_name_the_store(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("ACAMKD_DATA_DIR", str(tmp_path))
    monkeypatch.setenv("ACAMKD_DATASET_ROOTS", f"{tmp_path}/a, {tmp_path}/b")
    settings = Settings()
    Storage.from_settings(settings).put_file(write(tmp_path / "in", b"x"))
    assert len(list((tmp_path / "blobs").glob("2d/2d711642*"))) == 1  # sha256 of "x"
    assert settings.database == f"sqlite:///{tmp_path}/acamkd.db"
    assert [root.name for root in settings.roots] == ["uploads", "a", "b"]
    assert [Settings(host=host).keys_required for host in ("127.0.0.1", "::1", "0.0.0.0", "10.0.0.1")] == [
        False,
        False,
        True,
        True,
    ]
    with contextlib.suppress(CoreError):
        Storage("gs://bucket")
        pytest.fail("an unknown store was accepted")


def test_foundation_loads_no_torch() -> None:
    modules = "server.storage, server.queue, server.db.migrate, server.jobs.repository, server.artifacts.repository"
    code = f"import sys, {modules}; sys.exit(int('torch' in sys.modules or 'worker' in sys.modules))"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
