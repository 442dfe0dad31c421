"""Uploads from strangers."""

from __future__ import annotations

import io
import os
import shutil
import stat
import struct
import time
import tracemalloc
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import event
from sqlalchemy.exc import OperationalError
from sqlalchemy.orm import Session

from acamkd_core.datasets.registry import detect
from acamkd_core.spec.datasets import AutoDataset
from acamkd_core.spec.errors import CoreError
from server.datasets.leftovers import sweep_leftovers
from server.datasets.unpack import Limits, members_at_most, unpack
from server.db.base import new_id
from server.db.tables import Dataset
from tests.acamkd_core.datasets.cityscapes_factory import write_cityscapes
from tests.acamkd_core.datasets.coco_factory import write_coco
from tests.acamkd_core.datasets.factories import write_folder
from tests.acamkd_core.datasets.shapes_factory import write_shapes
from tests.acamkd_core.datasets.voc_factory import write_voc
from tests.acamkd_core.datasets.yolo_factory import write_yolo
from tests.server.api.conftest import World
from tests.server.factories import make_job
from tests.services import small_disk

API = "/api/v1"
WRITERS: dict[str, Callable[[Path], object]] = {
    "mask_folder": write_folder,
    "coco": write_coco,
    "voc": write_voc,
    "yolo": write_yolo,
    "cityscapes": write_cityscapes,
    "image_folder": write_shapes,
}
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


def test_what_a_desktop_adds_is_left_out(world: World) -> None:
    beside = {"__MACOSX/camvid/images/train/._a.png": b"z", "camvid/.DS_Store": b"z", "camvid/images/Thumbs.db": b"z"}
    root = Path(upload(world, packed(GOOD | beside)).json()["root"])
    assert root.name == "camvid"
    assert {f"camvid/{path.relative_to(root)}" for path in root.rglob("*") if path.is_file()} == set(GOOD)


@pytest.mark.parametrize("below", ["", "street"])
@pytest.mark.parametrize("format", WRITERS)
def test_a_zip_of_every_format_is_detected(tmp_path: Path, format: str, below: str) -> None:
    WRITERS[format](tmp_path / "made" / below)
    archive = Path(shutil.make_archive(str(tmp_path / "data"), "zip", tmp_path / "made"))
    limits = Limits(files=1000, unpacked_bytes=10**8, ratio=1000)
    root = unpack(archive, tmp_path / "unpacked", packed=archive.stat().st_size, limits=limits)
    assert detect(AutoDataset(format="auto", root=str(root)), root).format == format


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
