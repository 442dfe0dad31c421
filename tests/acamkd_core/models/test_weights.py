"""Reading files: what is refused, what is reported, the digest and the native format."""

from __future__ import annotations

import hashlib
import json
import os
import pickle
import random
import struct
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import safetensors.torch
import torch
from pydantic import TypeAdapter

from acamkd_core.models.base import TaskModel
from acamkd_core.models.registry import build_model
from acamkd_core.models.weights import (
    NativeHeader,
    arch_from_file,
    load_weights,
    read_native_header,
    read_state,
    save_native,
    weights_digest,
)
from acamkd_core.spec.archs import Arch
from acamkd_core.spec.errors import CoreError
from acamkd_core.spec.models import Preprocess, WeightsSpec
from acamkd_core.torchvision_compat import torchvision

ARCH: TypeAdapter[Arch] = TypeAdapter(Arch)
FIELDS: dict[str, Any] = {"family": "deeplabv3", "width": 0.35, "aspp_channels": 16, "aspp_rates": (2, 4, 6)}


def build(num_classes: int = 5, **changes: Any) -> TaskModel:
    return build_model(ARCH.validate_python({**FIELDS, **changes}), num_classes=num_classes)


class Payload:
    """What an attacker would send: unpickling it runs a command."""

    def __init__(self, marker: Path) -> None:
        self.marker = marker

    def __reduce__(self) -> tuple[Any, ...]:
        return (os.system, (f"touch {self.marker}",))


def code_of(error: pytest.ExceptionInfo[CoreError]) -> str:
    return error.value.code


@pytest.mark.parametrize("kind", ["zip", "legacy", "bare_pickle"])
def test_a_pickle_payload_is_refused_and_does_not_run(tmp_path: Path, kind: str) -> None:
    marker, file = tmp_path / "ran", tmp_path / "teacher.pth"
    content = {"backbone.x": torch.zeros(1), "extra": Payload(marker)}
    if kind == "bare_pickle":
        file.write_bytes(pickle.dumps(content))
    else:
        torch.save(content, file, _use_new_zipfile_serialization=kind == "zip")
    with pytest.raises(CoreError) as error:
        load_weights(build(), file)
    assert code_of(error) == "weights.unsafe_pickle"
    assert not marker.exists()


def test_a_whole_pickled_network_is_refused(tmp_path: Path) -> None:
    torch.save(torch.nn.Linear(2, 2), tmp_path / "net.pt")
    with pytest.raises(CoreError) as error:
        read_state(tmp_path / "net.pt")
    assert code_of(error) == "weights.unsafe_pickle"
    assert "Linear" in str(error.value)


@pytest.mark.parametrize("kind", ["cut_zip", "cut_safetensors", "text", "empty", "lying_length"])
def test_damaged_files(tmp_path: Path, kind: str) -> None:
    file, whole = tmp_path / "weights", tmp_path / "whole"
    if kind == "cut_zip":
        torch.save(build().state_dict(), whole)
        file.write_bytes(whole.read_bytes()[:5000])
    elif kind == "cut_safetensors":
        save_native(build(), whole, header())
        file.write_bytes(whole.read_bytes()[:-1000])
    elif kind == "lying_length":
        file.write_bytes(struct.pack("<Q", 2**40) + b"{}")
    else:
        file.write_bytes(b"" if kind == "empty" else b"<html>not found</html>")
    with pytest.raises(CoreError) as error:
        load_weights(build(), file)
    assert code_of(error) == "weights.unreadable"


@pytest.mark.filterwarnings("ignore")
def test_flipped_bytes_are_an_error_of_the_file_whatever_torch_makes_of_them(tmp_path: Path) -> None:
    rng, path = random.Random(3), tmp_path / "x"
    state = dict(list(build().state_dict().items())[:12])
    torch.save(state, tmp_path / "zip")
    torch.save(state, tmp_path / "legacy", _use_new_zipfile_serialization=False)
    safetensors.torch.save_file(state, tmp_path / "safe")
    seeds = [(tmp_path / name).read_bytes() for name in ("zip", "legacy", "legacy", "safe")]
    refused = 0
    for _ in range(600):
        data = bytearray(rng.choice(seeds))
        for _ in range(rng.randint(1, 4)):
            data[rng.randrange(min(len(data), 700))] = rng.randrange(256)
        if rng.random() < 0.3:
            del data[rng.randrange(2, len(data)) :]
        path.write_bytes(bytes(data))
        try:
            read_native_header(path)
            read_state(path)
        except CoreError:  # anything else fails the test
            refused += 1
    assert refused > 300


def test_missing_file_and_no_tensors(tmp_path: Path) -> None:
    with pytest.raises(CoreError) as error:
        load_weights(build(), tmp_path / "none.pth")
    assert code_of(error) == "weights.missing_file"
    torch.save({"epoch": 3}, tmp_path / "empty.pth")
    with pytest.raises(CoreError) as error:
        load_weights(build(), tmp_path / "empty.pth")
    assert code_of(error) == "weights.no_tensors"


@pytest.mark.parametrize("kind", ["sparse", "meta", "quantised"])
def test_tensors_that_hold_no_plain_numbers_are_refused(tmp_path: Path, kind: str) -> None:
    state: dict[str, Any] = dict(build().state_dict())
    name = "aspp_head.classifier.weight"
    if kind == "sparse":
        state[name] = state[name].to_sparse()
    elif kind == "meta":
        state[name] = state[name].to("meta")
    else:
        state[name] = torch.quantize_per_tensor(state[name], 0.1, 0, torch.qint8)
    torch.save(state, tmp_path / "odd.pth")
    with pytest.raises(CoreError) as error:
        load_weights(build(), tmp_path / "odd.pth")
    assert code_of(error) in ("weights.unreadable", "weights.unsafe_pickle")


def test_what_did_not_match_is_listed_by_name_and_shape(tmp_path: Path) -> None:
    state = dict(build(19).state_dict())
    state["head.extra"] = torch.zeros(2)
    del state["aspp_head.aspp.project.0.weight"]
    torch.save(state, tmp_path / "x.pth")
    text = str(load_weights(build(5), tmp_path / "x.pth"))
    assert "1 missing: aspp_head.aspp.project.0.weight" in text
    assert "1 unexpected: head.extra" in text
    assert "2 of other shape: aspp_head.classifier.weight [19, 16, 1, 1] for [5, 16, 1, 1]" in text


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float64])
def test_weights_of_any_precision_load(tmp_path: Path, dtype: torch.dtype) -> None:
    source, target = build(), build()
    torch.save({k: v.to(dtype) if v.is_floating_point() else v for k, v in source.state_dict().items()}, tmp_path / "x")
    load_weights(target, tmp_path / "x", strict=True)
    for name, tensor in target.state_dict().items():
        assert tensor.dtype == source.state_dict()[name].dtype
        torch.testing.assert_close(tensor, source.state_dict()[name].to(dtype).to(tensor.dtype), rtol=0, atol=0)


@pytest.mark.parametrize("wrap", ["bare", "state_dict", "model", "dataparallel"])
def test_wrapped_and_prefixed_states_load(tmp_path: Path, wrap: str) -> None:
    source, target = build(), build()
    state: dict[str, Any] = source.state_dict()
    if wrap == "dataparallel":
        state = {f"module.{name}": tensor for name, tensor in state.items()}
    elif wrap != "bare":
        state = {wrap: state, "epoch": 7}
    torch.save(state, tmp_path / "x.pth")
    report = load_weights(target, tmp_path / "x.pth", strict=True)
    assert weights_digest(target.state_dict()) == weights_digest(source.state_dict())
    assert (report.layout, report.missing, report.unexpected) == ("native", [], [])


def test_nothing_matches_is_an_error_and_changes_nothing(tmp_path: Path) -> None:
    safetensors.torch.save_file({"a.weight": torch.zeros(3)}, tmp_path / "x.safetensors")
    model = build()
    before = weights_digest(model.state_dict())
    with pytest.raises(CoreError, match=r"a\.weight") as error:
        load_weights(model, tmp_path / "x.safetensors")
    assert code_of(error) == "weights.nothing_matches"
    assert weights_digest(model.state_dict()) == before


def test_another_width_matches_nothing(tmp_path: Path) -> None:
    """The batch norms' step counters fit, but no weight does: loading them alone must not look like success."""
    torch.save(build(width=1.0).state_dict(), tmp_path / "x.pth")
    with pytest.raises(CoreError, match="other width") as error:
        load_weights(build(width=0.35), tmp_path / "x.pth", backbone_only=True)
    assert code_of(error) == "weights.nothing_matches"


def test_teacher_with_other_classes(tmp_path: Path) -> None:
    save_native(build(19), tmp_path / "t.safetensors", header(19))
    teacher = build(11)
    before = weights_digest(teacher.state_dict())
    with pytest.raises(CoreError, match=r"19 classes, but 11") as error:
        load_weights(teacher, tmp_path / "t.safetensors", strict=True)
    assert code_of(error) == "weights.other_classes"
    assert weights_digest(teacher.state_dict()) == before
    # A student may start from it: all but the classifier is taken, and the report says so.
    report = load_weights(teacher, tmp_path / "t.safetensors")
    assert set(report.mismatched) == {"aspp_head.classifier.weight", "aspp_head.classifier.bias"}
    assert report.mismatched["aspp_head.classifier.bias"] == ((19,), (11,))


def test_teacher_with_another_network_is_incomplete(tmp_path: Path) -> None:
    save_native(build(aspp_rates=(2,)), tmp_path / "t.safetensors", header())
    with pytest.raises(CoreError) as error:
        load_weights(build(), tmp_path / "t.safetensors", strict=True, field="teacher.weights")
    assert code_of(error) == "weights.incomplete"
    assert error.value.info.field == "teacher.weights"


def test_weights_of_a_diverged_run_are_refused(tmp_path: Path) -> None:
    state = build().state_dict()
    state["backbone.features.4.conv.2.weight"][0, 0] = float("nan")
    torch.save(state, tmp_path / "t.pth")
    model = build()
    before = weights_digest(model.state_dict())
    with pytest.raises(CoreError, match=r"features\.4\.conv\.2\.weight") as error:
        load_weights(model, tmp_path / "t.pth")
    assert code_of(error) == "weights.not_finite"
    assert weights_digest(model.state_dict()) == before


def test_teacher_may_lack_the_auxiliary_head(tmp_path: Path) -> None:
    torch.save(build().state_dict(), tmp_path / "t.pth")
    report = load_weights(build(aux_head=True), tmp_path / "t.pth", strict=True)
    assert report.missing
    assert all(name.startswith("aux_head.") for name in report.missing)


def test_backbone_only_leaves_the_head(tmp_path: Path) -> None:
    torch.save(build(19).state_dict(), tmp_path / "t.pth")
    model = build(5)
    head = weights_digest(model.head.state_dict())
    report = load_weights(model, tmp_path / "t.pth", backbone_only=True)
    assert weights_digest(model.head.state_dict()) == head
    assert (report.missing, report.unexpected, report.mismatched) == ([], [], {})
    assert all(name.startswith("backbone.") for name in report.matched)


def test_files_of_jobs_are_found_by_reference(tmp_path: Path) -> None:
    save_native(build(), tmp_path / "blob", header())
    spec = WeightsSpec(job="camvid-teacher")
    assert load_weights(build(), spec, files={"job:camvid-teacher": tmp_path / "blob"}).source == "job:camvid-teacher"
    with pytest.raises(CoreError) as error:
        load_weights(build(), spec)
    assert code_of(error) == "weights.not_local"


def test_torchvision_names(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    with pytest.raises(CoreError) as error:
        load_weights(build(), WeightsSpec(torchvision="MobileNet_V2_Weights.NOPE"))
    assert code_of(error) == "weights.unknown_torchvision"
    # A download that fails, without a network: the weights' address points to a file that does not exist.
    monkeypatch.setenv("TORCH_HOME", str(tmp_path))
    weights = torchvision.models.get_weight("MobileNet_V2_Weights.IMAGENET1K_V1")
    object.__setattr__(weights.value, "url", (tmp_path / "absent-0000000000.pth").as_uri())
    try:
        with pytest.raises(CoreError) as error:
            load_weights(build(), WeightsSpec(torchvision="MobileNet_V2_Weights.IMAGENET1K_V1"))
        assert code_of(error) == "weights.download_failed"
        # And one that works: torchvision's own code fetches, checks the hash in the name, and unpickles safely.
        source = torchvision.models.mobilenet_v2()
        torch.save(source.state_dict(), tmp_path / "raw.pth")
        digest = hashlib.sha256((tmp_path / "raw.pth").read_bytes()).hexdigest()[:8]
        served = (tmp_path / "raw.pth").rename(tmp_path / f"served-{digest}.pth")
        object.__setattr__(weights.value, "url", served.as_uri())
        model = build(width=1.0)
        spec = WeightsSpec(torchvision="MobileNet_V2_Weights.IMAGENET1K_V1")
        report = load_weights(model, spec, backbone_only=True)
        assert (report.missing, report.mismatched) == ([], {})
        ours = model.get_submodule("backbone.features.5.conv.2")
        assert torch.equal(ours.weight, source.features[5].conv[2].weight)  # type: ignore[arg-type, union-attr, index]
    finally:
        object.__setattr__(weights.value, "url", "https://download.pytorch.org/models/mobilenet_v2-b0353104.pth")


def test_digest_is_of_the_tensors_not_the_file() -> None:
    a, b = torch.arange(6.0).reshape(2, 3), torch.tensor(3, dtype=torch.int64)
    by_hand = hashlib.sha256(
        b"a\0torch.float32\0(2, 3)\0" + struct.pack("<6f", *range(6)) + b"b\0torch.int64\0()\0" + struct.pack("<q", 3)
    ).hexdigest()
    assert weights_digest({"b": b, "a": a}) == by_hand
    assert weights_digest({"a": a.t().contiguous().t(), "b": b}) == by_hand
    for other in ({"a": a.t(), "b": b}, {"a": a.double(), "b": b}, {"c": a, "b": b}, {"a": -a, "b": b}):
        assert weights_digest(other) != by_hand
    assert len(weights_digest({"h": torch.ones(2, dtype=torch.bfloat16)})) == 64


def header(num_classes: int = 5) -> NativeHeader:
    return NativeHeader(
        arch=ARCH.validate_python(FIELDS),
        num_classes=num_classes,
        class_names=tuple(f"class {index}" for index in range(num_classes)),
        preprocess=Preprocess(order="bgr", range=255),
        extra={"miou": 43.6},
    )


def test_native_file_rebuilds_its_network(tmp_path: Path) -> None:
    model = build()
    file = tmp_path / "student.safetensors"
    digest = save_native(model, file, header())
    assert [path.name for path in tmp_path.iterdir()] == [file.name]
    read = read_native_header(file)
    assert read == header()
    rebuilt = build_model(arch_from_file(file), num_classes=read.num_classes, preprocess=read.preprocess)
    load_weights(rebuilt, file, strict=True)
    assert weights_digest(rebuilt.state_dict()) == digest == weights_digest(safetensors.torch.load_file(file))


def test_header_is_read_without_torch_and_foreign_files_have_none(tmp_path: Path) -> None:
    save_native(build(), tmp_path / "n", header())
    safetensors.torch.save_file({"a": torch.zeros(1)}, tmp_path / "foreign", metadata={"format": "pt"})
    torch.save({"a": torch.zeros(1)}, tmp_path / "torch.pth")
    (tmp_path / "empty").write_bytes(b"")
    script = (
        "import sys; from acamkd_core.spec.native import read_native_header as r; "
        "print([(h.num_classes if (h := r(p)) else None) for p in sys.argv[1:]], 'torch' in sys.modules)"
    )
    names = [str(tmp_path / name) for name in ("n", "foreign", "torch.pth", "empty")]
    done = subprocess.run([sys.executable, "-c", script, *names], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[5, None, None, None] False"
    with pytest.raises(CoreError) as error:
        arch_from_file(tmp_path / "foreign")
    assert code_of(error) == "weights.no_architecture"
    too_new = json.loads(header().model_dump_json()) | {"format_version": 2}
    safetensors.torch.save_file({"a": torch.zeros(1)}, tmp_path / "new", metadata={"acamkd": json.dumps(too_new)})
    with pytest.raises(CoreError) as error:
        read_native_header(tmp_path / "new")
    assert code_of(error) == "weights.unreadable"
