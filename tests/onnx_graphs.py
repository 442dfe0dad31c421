"""Small ONNX files as strangers write them, made node by node: no torch, so the server's tests use them too."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper


def segmenter(classes: int = 11, size: tuple[int, int] | None = (48, 64)) -> onnx.ModelProto:
    """image -> stem (stride 4) -> scores (stride 4) -> out (upsampled to the image), a dynamic batch.

    size: fixed height and width; None: dynamic, and the upsampling is by a factor.
    """
    rng = np.random.default_rng(0)
    weights = {
        "stem.weight": rng.normal(0, 0.2, (8, 3, 4, 4)),
        "head.weight": rng.normal(0, 0.5, (classes, 8, 1, 1)),
        "factors": np.array([1, 1, 4, 4]),
    }
    image: list[Any] = ["batch", 3, *(size or ("height", "width"))]
    low: list[Any] = ["batch", classes, *([side // 4 for side in size] if size else ("h", "w"))]
    nodes = [
        helper.make_node("Conv", ["image", "stem.weight"], ["conv"], strides=[4, 4], kernel_shape=[4, 4]),
        helper.make_node("Relu", ["conv"], ["stem"]),
        helper.make_node("Conv", ["stem", "head.weight"], ["scores"], kernel_shape=[1, 1]),
        helper.make_node("Resize", ["scores", "", "factors"], ["out"], mode="linear"),
    ]
    graph = helper.make_graph(
        nodes, "segmenter", [helper.make_tensor_value_info("image", TensorProto.FLOAT, image)],
        [
            helper.make_tensor_value_info("out", TensorProto.FLOAT, [low[0], classes, *image[2:]]),
        ],
        [numpy_helper.from_array(value.astype(np.float32), name) for name, value in weights.items()],
        value_info=[helper.make_tensor_value_info("scores", TensorProto.FLOAT, low)],
    )  # fmt: skip
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)
    onnx.checker.check_model(model)
    return model


def write(path: Path, model: onnx.ModelProto) -> Path:
    path.write_bytes(model.SerializeToString())
    return path


def fixed_batch(model: onnx.ModelProto) -> None:
    model.graph.input[0].type.tensor_type.shape.dim[0].dim_value = 1


def channels_last(model: onnx.ModelProto) -> None:
    dims = model.graph.input[0].type.tensor_type.shape.dim
    dims[1].dim_value, dims[3].dim_value = 48, 3


def second_input(model: onnx.ModelProto) -> None:
    model.graph.input.append(helper.make_tensor_value_info("sizes", TensorProto.INT64, [2]))


def custom_operator(model: onnx.ModelProto) -> None:
    model.graph.node.append(helper.make_node("NMSRotated", ["scores"], ["kept"], domain="mmdeploy"))


def invented_operator(model: onnx.ModelProto) -> None:
    model.graph.node[1].op_type = "ReluButFaster"


def custom_operator_in_a_branch(model: onnx.ModelProto) -> None:
    hidden = helper.make_node("Call", [], ["x"], domain="evil")
    branch = helper.make_graph([hidden], "b", [], [helper.make_tensor_value_info("x", TensorProto.FLOAT, [1])])
    model.graph.node.append(helper.make_node("If", ["stem"], ["y"], then_branch=branch, else_branch=branch))


def external_weights(model: onnx.ModelProto) -> None:
    tensor = model.graph.initializer[0]
    tensor.ClearField("raw_data")
    tensor.data_location = TensorProto.EXTERNAL
    tensor.external_data.add(key="location", value="../../etc/passwd")


def external_constant(model: onnx.ModelProto) -> None:
    value = TensorProto(dims=[1], data_type=TensorProto.FLOAT, name="far", data_location=TensorProto.EXTERNAL)
    value.external_data.add(key="location", value="/etc/passwd")
    model.graph.node.insert(0, helper.make_node("Constant", [], ["far"], value=value))


def class_ids(model: onnx.ModelProto) -> None:
    """Ends in the ids of the classes instead of their scores."""
    model.graph.node.append(helper.make_node("ArgMax", ["out"], ["ids"], axis=1, keepdims=0))
    model.graph.output.pop()
    model.graph.output.append(helper.make_tensor_value_info("ids", TensorProto.INT64, ["batch", 48, 64]))


def two_maps(model: onnx.ModelProto) -> None:
    model.graph.output.append(helper.make_tensor_value_info("scores", TensorProto.FLOAT, ["batch", 11, 12, 16]))


def batch_inside(model: onnx.ModelProto) -> None:
    """The first image of every batch, whatever the file declares."""
    model.graph.initializer.extend(
        numpy_helper.from_array(np.array([value]), name) for name, value in (("zero", 0), ("one", 1))
    )
    model.graph.node.insert(0, helper.make_node("Slice", ["image", "zero", "one", "zero"], ["first"]))
    model.graph.node[1].input[0] = "first"


def not_finite(model: onnx.ModelProto) -> None:
    weight = numpy_helper.to_array(model.graph.initializer[1]).copy()
    weight[0] = np.inf
    model.graph.initializer[1].CopyFrom(numpy_helper.from_array(weight, "head.weight"))


REFUSED: dict[str, tuple[Callable[[onnx.ModelProto], Any], str]] = {
    "fixed_batch": (fixed_batch, "onnx.fixed_batch"),
    "channels_last": (channels_last, "onnx.input"),
    "second_input": (second_input, "onnx.input"),
    "custom_operator": (custom_operator, "onnx.custom_operators"),
    "invented_operator": (invented_operator, "onnx.custom_operators"),
    "custom_operator_in_a_branch": (custom_operator_in_a_branch, "onnx.custom_operators"),
    "external_weights": (external_weights, "onnx.external_data"),
    "external_constant": (external_constant, "onnx.external_data"),
    "class_ids": (class_ids, "onnx.no_scores"),
    "two_maps": (two_maps, "onnx.which_raw"),
}
"""Changes to `segmenter` that nobody has to run to refuse them, and the refusals' codes."""
