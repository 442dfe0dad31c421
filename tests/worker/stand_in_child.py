"""A run without a network: it speaks the worker's protocol as the engine does, in milliseconds and bit-exactly.

Its "weights" are a chain of SHA-256 digests: step n needs step n-1, so a resume that loses, repeats or mixes steps
ends with another digest. The spec's `notes` carry its habits as JSON: `pace` seconds a step, `slow` seconds within
each checkpoint write and export, `stubborn` ignores SIGTERM, `fail` ends with a user error, `crash_at` exits at a step
of the first attempt, `spawn` starts a grandchild in its own session, `hog` MiB to allocate,
`weight` MiB of each checkpoint and export, `helper` starts a process without which it cannot go on (a loader's part).
"""

from __future__ import annotations

import argparse
import hashlib
import json
import os
import pathlib
import signal
import struct
import subprocess
import sys
import threading
import time
import zlib

stop = False


def main() -> int:
    parser = argparse.ArgumentParser()
    parser.add_argument("--dir", type=pathlib.Path, required=True)
    folder = parser.parse_args().dir
    run = json.loads((folder / "run.json").read_text())
    spec = run["spec"]
    habits = json.loads(spec.get("notes") or "{}")
    threading.Thread(target=lifeline, daemon=True).start()
    signal.signal(signal.SIGTERM, signal.SIG_IGN if habits.get("stubborn") else ask_stop)
    say = Sayer(folder)
    print(f"stand-in starts attempt {run['attempt']}", flush=True)
    if habits.get("spawn"):
        subprocess.Popen([sys.executable, "-c", "import time; time.sleep(600)"], start_new_session=True)
    if spec["kind"] == "inspect":
        return inspect(say, folder)
    return train(say, folder, run, spec, habits)


def train(say: Sayer, folder: pathlib.Path, run: dict, spec: dict, habits: dict) -> int:
    steps = spec["schedule"]["iterations"]
    every = spec["checkpoint"]["every"] or 10
    pace, slow = habits.get("pace", 0.002), habits.get("slow", 0.0)
    state = hashlib.sha256(f"{spec['seed']}".encode()).hexdigest()
    start = 0
    for name, path in run["inputs"].items():
        state = hashlib.sha256((state + name + sha(path)).encode()).hexdigest()
    if run["resume"]:
        saved = json.loads(pathlib.Path(run["resume"]).read_text())
        start, state = saved["iteration"], saved["state"]
        say("rewound", iteration=start, attempt=run["attempt"])
    say("stage", stage="train")
    if habits.get("fail"):
        error = {"code": "dataset.empty", "message": "the training split has no images", "field": "dataset"}
        say("result", status="failed", reason="spec_or_data", error=error)
        return 1
    helper = None
    if habits.get("helper"):
        helper = subprocess.Popen([sys.executable, "-c", "import os\nwhile os.read(0, 1): pass"], stdin=subprocess.PIPE)
    if habits.get("hog"):
        hog = [bytearray(os.urandom(1 << 20)) for _ in range(habits["hog"])]
        print(len(hog), flush=True)
    for step in range(start + 1, steps + 1):
        time.sleep(pace)
        state = hashlib.sha256(f"{state}{step}".encode()).hexdigest()
        say("metrics", iteration=step, values={"loss/total": int(state[:6], 16) / 1e6, "lr": 1.0 / step})
        if helper is not None and helper.poll() is not None:
            error = {"code": "data.loader_killed", "message": "a loader process was killed"}
            say("result", status="failed", reason="bug", error=error, iteration=step)
            return 1
        if habits.get("crash_at") == step and run["attempt"] == 1:
            os._exit(9)
        if stop or step % every == 0 or step == steps:
            save(say, folder, step, state, slow, habits.get("weight", 0.0))
        if stop:
            say("result", status="stopped", reason="stopped", iteration=step)
            return 3
        if step % every == 0:
            score = int(state[:4], 16) / 655.36
            say("progress", iteration=step, iterations=steps, epoch=step / every, iterations_per_second=1 / max(pace, 1e-3),
                images_per_second=1.0, device_seconds=step * pace, data_wait=0.0)  # fmt: skip
            say(
                "evaluation",
                role="student",
                split="val",
                iteration=step,
                metrics={"miou": score},
                per_class={"road": score, "sky": None},
                seconds=0.0,
            )
            picture(folder / "panels" / f"{step}.png", step)
            say("panel", iteration=step, image=0, kind="prediction", path=f"panels/{step}.png")
    export(say, folder, state, slow, habits.get("weight", 0.0))
    say(
        "result",
        status="succeeded",
        reason="done",
        metrics={"test/miou": int(state[:4], 16) / 655.36},
        weights_digest=state,
        iteration=steps,
    )
    return 0


def export(say: Sayer, folder: pathlib.Path, state: str, slow: float, weight: float) -> None:
    say("stage", stage="export")
    header = json.dumps(
        {"__metadata__": {"state": state}, "w": {"dtype": "U8", "shape": [32], "data_offsets": [0, 32]}}
    ).encode()
    body = struct.pack("<Q", len(header)) + header + bytes.fromhex(state)
    for name, data, kind in (
        ("student.safetensors", body, "safetensors"),
        ("student.onnx", body[::-1], "onnx"),
        ("bundle.zip", b"PK" + body + b"x" * int(weight * 2**20), "zip"),
    ):
        write(folder / "exports" / name, data, slow)
        say("export", format=kind, path=f"exports/{name}", bytes=len(data), weights_digest=state if kind != "zip" else None,
            verified=True if kind == "onnx" else None)  # fmt: skip


def inspect(say: Sayer, folder: pathlib.Path) -> int:
    report = {
        "name": "streets", "digest": "3f9c1e" + "0" * 58, "format": "mask_folder",
        "task": "semantic_segmentation", "ignore_id": 255, "seconds": 0.1,
        "findings": [], "splits": [{"role": "train", "images": 3, "labelled": 3, "pixels": 9, "ignored": 0}], "sizes": [],
        "classes": [{"index": 0, "id": 0, "name": "road", "color": [1, 2, 3], "pixels": {"train": 9}, "images": {"train": 3}}],
    }  # fmt: skip
    say("inspection", report=report)
    picture(folder / "exports" / "contact_sheet.png", 7)
    say(
        "export",
        format="png",
        path="exports/contact_sheet.png",
        bytes=(folder / "exports/contact_sheet.png").stat().st_size,
    )
    say("result", status="succeeded", reason="done")
    return 0


def save(say: Sayer, folder: pathlib.Path, step: int, state: str, slow: float, weight: float) -> None:
    path = folder / "checkpoints" / f"step-{step:06d}.ckpt"
    write(path, json.dumps({"iteration": step, "state": state, "weight": "x" * int(weight * 2**20)}).encode(), slow)
    for old in sorted(path.parent.glob("*.ckpt"))[:-3]:
        old.unlink()
    say(
        "checkpoint",
        iteration=step,
        path=f"checkpoints/{path.name}",
        is_best=True,
        is_last=True,
        metrics={"val/miou": 1.0},
    )


def write(path: pathlib.Path, data: bytes, slow: float = 0.0) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    aside = path.with_suffix(".tmp")
    with aside.open("wb") as file:
        file.write(data[: len(data) // 2])
        file.flush()
        time.sleep(slow)
        file.write(data[len(data) // 2 :])
        file.flush()
        os.fsync(file.fileno())
    aside.rename(path)


def picture(path: pathlib.Path, value: int) -> None:
    """A valid one-pixel PNG."""

    def chunk(kind: bytes, data: bytes) -> bytes:
        return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))

    pixels = zlib.compress(bytes([0, value % 256, 0, 0]))
    write(
        path,
        b"\x89PNG\r\n\x1a\n"
        + chunk(b"IHDR", struct.pack(">IIBBBBB", 1, 1, 8, 2, 0, 0, 0))
        + chunk(b"IDAT", pixels)
        + chunk(b"IEND", b""),
    )


class Sayer:
    def __init__(self, folder: pathlib.Path) -> None:
        self.file = (folder / "events.jsonl").open("ab", buffering=0)

    def __call__(self, event: str, /, **fields: object) -> None:
        self.file.write(json.dumps({"type": event, "time": time.time(), **fields}).encode() + b"\n")


def sha(path: str) -> str:
    return hashlib.sha256(pathlib.Path(path).read_bytes()).hexdigest()


def lifeline() -> None:
    # Not sys.stdin: a thread that sits in its buffer's lock makes the interpreter abort at exit.
    while os.read(0, 1):
        pass
    os._exit(75)


def ask_stop(*_: object) -> None:
    global stop
    stop = True


if __name__ == "__main__":
    sys.exit(main())
