"""What an ONNX file holds, read without running it and without torch: inputs, outputs, tensors, weights, our metadata.

Files come from strangers: one that points at other files, or asks for operators that ONNX does not define, is refused
here, so that no runtime ever sees it.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from functools import lru_cache
from pathlib import Path
from typing import Any, Literal

from pydantic import BaseModel, Field, ValidationError

from acamkd_core.spec.errors import CoreError

METADATA_KEY = "acamkd"
MAX_BYTES = 2**31 - 1  # protobuf's own limit; larger networks keep their tensors beside the file
_FLOATS = {"FLOAT", "FLOAT16", "DOUBLE", "BFLOAT16"}
_WEIGHTS = _FLOATS | {"INT8", "UINT8", "INT4", "UINT4", "FLOAT8E4M3FN", "FLOAT8E5M2"}  # not the integers of shapes
_HALF_PIXEL = {"half_pixel", "pytorch_half_pixel"}

Shape = tuple[int | None, ...]
"""Sizes of a tensor; None where it depends on the input."""


class _Input(BaseModel):
    size: tuple[int, int]
    channel_order: Literal["rgb", "bgr"]
    range: Literal[1, 255]
    mean: tuple[float, float, float]
    std: tuple[float, float, float]
    inside: str | None = None


class _Class(BaseModel):
    name: str


class OnnxHeader(BaseModel):
    """The metadata entry `acamkd` of a file that we exported (`exports.onnx.metadata`)."""

    format_version: Literal[1]
    task: str = "semantic_segmentation"
    input: _Input
    classes: list[_Class] = Field(min_length=1)
    arch: dict[str, Any] = {}
    selection: dict[str, Any] = {}
    levels: dict[str, str] = {}


@dataclass(frozen=True)
class OnnxTensor:
    """A tensor as the file declares it: its kind (`FLOAT` ...) and shape, None where it does not say."""

    kind: str | None = None
    shape: Shape | None = None

    @property
    def is_float(self) -> bool:
        """Whether it can hold scores or features, as far as it is known."""
        return self.kind is None or self.kind in _FLOATS


@dataclass(frozen=True)
class OnnxFile:
    """Facts about a file.

    input: name of the image. image: its declaration, N3HW. inside: a second input, N2, that is told height and width of each
    image inside a padded one (two-stage detectors that we exported). outputs: by name, in the file's order. inner: the tensors
    between. before_resize: output to (tensor, align_corners) where the last thing that happens to it is a bilinear resize.
    made_by: the operator behind each output, and what that reads. parameters: numbers in all weights.
    """

    name: str
    input: str
    image: OnnxTensor
    outputs: dict[str, OnnxTensor]
    inner: frozenset[str]
    before_resize: dict[str, tuple[str, bool]]
    made_by: dict[str, tuple[str, str]]
    parameters: int
    header: OnnxHeader | None = None
    inside: str | None = None
    opsets: dict[str, int] = field(default_factory=dict)

    def has(self, tensor: str) -> bool:
        """Whether the graph computes a tensor of this name."""
        return tensor in self.outputs or tensor in self.inner


def read_onnx(path: Path, *, field: str = "teacher.weights") -> OnnxFile:
    """Facts about the file at `path`; kept for the next call while the file stays the same.

    Raises:
        CoreError: `onnx.missing_file`, `onnx.unreadable`, `onnx.too_large`, `onnx.external_data`, `onnx.custom_operators`,
            `onnx.input`, `onnx.fixed_batch`; with `field`.
    """
    try:
        stat = path.stat()
    except OSError:
        raise CoreError("onnx.missing_file", f"no file {path.name}", field=field, value=str(path)) from None
    try:
        return _read(str(path), stat.st_mtime_ns, stat.st_size)
    except CoreError as error:
        raise CoreError.of(error.info.model_copy(update={"field": field})) from None


@lru_cache(maxsize=16)
def _read(path: str, changed: int, size: int) -> OnnxFile:
    name = Path(path).name
    if size > MAX_BYTES:
        raise CoreError(
            "onnx.too_large", f"{name} has {size / 1e9:.1f} GB; an ONNX file has 2 GB at most",
            hint="store it in half precision", value=size,
        )  # fmt: skip
    model = parse(Path(path).read_bytes(), name)
    graph = model.graph
    _refuse_external(model, name)
    _refuse_custom(model, name)
    stored = {tensor.name for tensor in graph.initializer}
    header = _header(model, name)
    inside = header.input.inside if header is not None else None
    inputs = [value for value in graph.input if value.name not in stored]
    if inside is not None and [value.name for value in inputs[1:]] == [inside]:
        inputs.pop()
    image_name, image = _image(inputs, name)
    outputs = {value.name: _declared(value) for value in graph.output}
    makers = {made: node for node in graph.node for made in node.output if made}
    made_by = {
        output: (makers[output].op_type, makers[output].input[0] if makers[output].input else "")
        for output in outputs
        if output in makers
    }
    return OnnxFile(
        name=name, input=image_name, image=image, outputs=outputs, inner=frozenset(makers) - outputs.keys(),
        before_resize={o: found for o in outputs if (found := _before_resize(o, makers)) is not None}, made_by=made_by,
        parameters=sum(_count(t) for graph_ in _graphs(model) for t in graph_.initializer), header=header, inside=inside,
        opsets={one.domain or "ai.onnx": one.version for one in model.opset_import},
    )  # fmt: skip


def parse(content: bytes, name: str) -> Any:
    """The file's protobuf message. Nothing in it is followed or run.

    Raises:
        CoreError: `onnx.unreadable`.
    """
    import onnx
    from google.protobuf.message import DecodeError

    model = onnx.ModelProto()
    try:
        model.ParseFromString(content)
    except DecodeError:
        model.Clear()
    if not model.graph.node or not model.graph.output:
        raise CoreError(
            "onnx.unreadable",
            f"{name} is no whole ONNX file",
            hint="torch.onnx.export writes one; docs/teachers.md shows how",
            value=name,
        )
    return model


def _graphs(model: Any) -> Iterator[Any]:
    """The graph, the graphs inside its nodes (branches, loops), and the bodies of functions."""
    waiting = [model.graph, *model.functions]
    while waiting:
        graph = waiting.pop()
        if hasattr(graph, "initializer"):
            yield graph
        for node in graph.node:
            for attribute in node.attribute:
                waiting += [attribute.g] if attribute.HasField("g") else []
                waiting += attribute.graphs


def _nodes(model: Any) -> Iterator[Any]:
    for graph in _graphs(model):
        yield from graph.node
    for function in model.functions:
        yield from function.node


def _refuse_external(model: Any, name: str) -> None:
    import onnx

    tensors = [tensor for graph in _graphs(model) for tensor in graph.initializer]
    sparse = [tensor for graph in _graphs(model) for tensor in graph.sparse_initializer]
    for node in _nodes(model):
        for attribute in node.attribute:
            tensors += [attribute.t, *attribute.tensors]
            sparse += [attribute.sparse_tensor, *attribute.sparse_tensors]
    tensors += [part for one in sparse for part in (one.values, one.indices)]
    for tensor in tensors:
        if tensor.data_location == onnx.TensorProto.EXTERNAL or tensor.external_data:
            raise CoreError(
                "onnx.external_data",
                f"{name} keeps tensors in other files, which are not read",
                hint="store it as one file: onnx.save(onnx.load(path), path), or external_data=False when exporting",
                value=tensor.name[:80],
            )


def _refuse_custom(model: Any, name: str) -> None:
    from onnx import defs

    own = {(function.domain, function.name) for function in model.functions}
    used = {(node.domain, node.op_type) for node in _nodes(model)} - own
    custom = sorted(
        f"{domain or 'ai.onnx'}.{kind}"
        for domain, kind in used
        # onnxruntime's own operators are built into it; this one reads files that the graph names.
        if not (domain == "com.microsoft" and kind != "EPContext")
        and not defs.has(kind, "" if domain == "ai.onnx" else domain)
    )
    if custom:
        raise CoreError(
            "onnx.custom_operators",
            f"{name} needs operators that ONNX does not define: {', '.join(custom[:5])}",
            hint="export without the plug-ins of a deployment tool; features come before decoding and suppression",
            value=custom[0],
        )


def _image(inputs: list[Any], name: str) -> tuple[str, OnnxTensor]:
    """The one input: a batch of images."""
    if len(inputs) != 1:
        raise CoreError(
            "onnx.input",
            f"{name} has {len(inputs)} inputs ({', '.join(value.name for value in inputs[:6])}); a teacher gets one batch of images",
            hint="wrap the network so that forward(images) is all it needs",
            value=len(inputs),
        )
    [value] = inputs
    image = _declared(value)
    shape = image.shape
    if image.kind not in ("FLOAT", "FLOAT16") or shape is None or len(shape) != 4 or shape[1] not in (3, None):
        told = "x".join("?" if size is None else str(size) for size in shape or ())
        raise CoreError(
            "onnx.input",
            f"the input {value.name!r} of {name} is {(image.kind or 'unknown').lower()} {told or 'of unknown shape'}; "
            "a teacher gets floating-point images N x 3 x H x W",
            hint="put a permute, or the division by 255, in front of the network" if shape and shape[-1] == 3 else None,
            value=told,
        )
    if shape[0] is not None:
        raise CoreError(
            "onnx.fixed_batch",
            f"{name} takes {shape[0]} image{'s' if shape[0] > 1 else ''} at a time, and batches differ in size",
            hint="export it with a dynamic first dimension (dynamic_shapes or dynamic_axes: {0: batch})",
            value=shape[0],
        )
    return value.name, image


def _declared(value: Any) -> OnnxTensor:
    import onnx

    if not value.type.HasField("tensor_type"):
        return OnnxTensor()
    tensor = value.type.tensor_type
    kind = onnx.TensorProto.DataType.Name(tensor.elem_type) if tensor.elem_type else None
    if not tensor.HasField("shape"):
        return OnnxTensor(kind)
    return OnnxTensor(kind, tuple(d.dim_value if d.dim_value > 0 else None for d in tensor.shape.dim))


def _before_resize(output: str, makers: dict[str, Any]) -> tuple[str, bool] | None:
    node, seen = makers.get(output), 0
    while node is not None and node.op_type == "Identity" and seen < 100:
        node, seen = makers.get(node.input[0]), seen + 1
    if node is None or node.op_type != "Resize" or node.input[0] not in makers:
        return None
    words = {attribute.name: attribute.s.decode(errors="replace") for attribute in node.attribute}
    grid = words.get("coordinate_transformation_mode", "half_pixel")
    if words.get("mode") != "linear" or grid not in {*_HALF_PIXEL, "align_corners"}:
        return None
    return node.input[0], grid == "align_corners"


def _count(tensor: Any) -> int:
    import onnx

    if onnx.TensorProto.DataType.Name(tensor.data_type) not in _WEIGHTS:
        return 0
    numbers = 1
    for size in tensor.dims:
        numbers *= size
    return int(numbers)


def _header(model: Any, name: str) -> OnnxHeader | None:
    text = next((one.value for one in model.metadata_props if one.key == METADATA_KEY), None)
    if text is None:
        return None
    try:
        return OnnxHeader.model_validate_json(text)
    except ValidationError as error:
        raise CoreError(
            "onnx.unreadable",
            f"the `{METADATA_KEY}` metadata of {name} is damaged",
            hint=f"written by another version? {error.errors(include_url=False)[0]['msg']}",
        ) from None
