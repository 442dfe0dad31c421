"""ONNX: normalised image in, decoded scores out; all else that a user needs is in the metadata.

Segmentation graphs return class scores at the input size. Detection graphs return the scores and boxes (in pixels of
the input) of every candidate: anchors and box coding are inside, so that one reader serves all families, and only the
choice among candidates is left to it. Proposals of two-stage detectors are chosen inside, by NonMaxSuppression: rounding in
the last bit may exchange two of them, so such graphs are compared with torch candidate by candidate whatever their order.

The graph has a dynamic batch and a fixed height and width: the size at which the network was evaluated is the only one
that the gate has verified, and runtimes plan memory and kernels best for known sizes. `predict.py` resizes to it. Where
images kept their aspect ratio (`augment.resize`) height and width are free, and `predict.py` resizes and pads by the rule.
A two-stage detector's graph then has a second input, what of the input is the image: proposals are cut to it before regions
are pooled.
Normalisation, channel order, size and class names are metadata (entry `acamkd`, JSON), so that one reader serves all.
"""

from __future__ import annotations

import copy
import itertools
import json
import logging
import warnings
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnxruntime
import torch
from torch import Tensor, nn

from acamkd_core.exports.base import ExportedFile, ExportSource
from acamkd_core.exports.onnx_ops import translations
from acamkd_core.exports.predict import FORMAT_VERSION, METADATA_KEY, parse_contract
from acamkd_core.models.base import TaskModel
from acamkd_core.spec.exports import OnnxExport

INPUT_NAME = "image"
INSIDE_NAME = "size"
PAD_COLOR = (124, 116, 104)  # as in training: `tasks.detection_augment`
LEVEL = "level."  # before the names of levels inside the graph
# Sums over thousands of products differ in their last bits between runtimes (3e-6 is usual); more is a wrong graph.
MAX_RELATIVE_DIFFERENCE = 1e-3
# Where a graph chooses: candidates that may differ because two of them nearly tie, and what still counts as equal.
MAX_LOST, SAME_BOX, SAME_SCORE = 0.05, 0.5, 0.02


class ScoringGraph(nn.Module):
    """The network without its normalisation, followed by the task's decoding up to class scores."""

    def __init__(self, source: ExportSource) -> None:
        super().__init__()
        self.model: TaskModel = copy.deepcopy(source.model).cpu().float().eval().requires_grad_(False)
        # Whichever layout it trained in: in NHWC the tracer asks whether maps have a side of 1.
        self.model.to(memory_format=torch.contiguous_format)  # type: ignore[call-overload]
        self.model.normalise = nn.Identity()  # type: ignore[assignment]  # the file's metadata says it instead
        self._scores = source.scores
        self._size = source.size if source.aspect is None else None

    def forward(self, image: Tensor, size: Tensor | None = None) -> tuple[Tensor, ...]:
        """N3HW normalised image to the tensors of `source.outputs`, then every level that the network publishes.

        `size`: height and width of each image inside a padded input, N2, where the graph has to know (`ExportSource.told_inside`).
        """
        out = self.model(image)
        told = () if size is None else (size,)
        found = self._scores(self.model, out, self._size or (image.shape[-2], image.shape[-1]), *told)
        scores = (found,) if isinstance(found, Tensor) else found
        return (*(one.contiguous() for one in scores), *(out.features[name] for name in self.model.levels))


def metadata(source: ExportSource, opset: int, levels: dict[str, str]) -> dict[str, Any]:
    """The JSON object under `acamkd`: what a reader must do before the graph, and what its channels mean.

    `levels`: tensor inside the graph to the level that it is; the file can teach by them.
    """
    preprocess = source.preprocess
    return {
        "format_version": FORMAT_VERSION,
        "task": source.task,
        "opset": opset,
        "input": {
            "name": INPUT_NAME,
            "layout": "NCHW",
            "dtype": "float32",
            "size": list(source.size),
            "channel_order": preprocess.order,
            "range": preprocess.range,
            "mean": list(preprocess.mean),
            "std": list(preprocess.std),
            "resize": source.resize,
            **({"aspect": {**source.aspect, "pad_color": list(PAD_COLOR)}} if source.aspect is not None else {}),
            **({"short_side": source.short_side} if source.short_side is not None else {}),
            **({"inside": INSIDE_NAME} if source.told_inside else {}),
        },
        **_outputs(source),
        "classes": [{"name": entry.name, "color": list(entry.color)} for entry in source.classes],
        "arch": source.arch,
        "weights_digest": source.weights_digest,
        "levels": levels,
    }


def _outputs(source: ExportSource) -> dict[str, Any]:
    described = [{"name": name, "layout": layout, "meaning": meaning} for name, layout, meaning in source.outputs]
    if not source.selection:
        return {"output": described[0]}
    return {"outputs": described, "selection": source.selection}


class OnnxExporter:
    """Writes `model.onnx`."""

    file_name = "model.onnx"
    gated = True

    def write(self, source: ExportSource, options: OnnxExport, path: Path) -> ExportedFile:
        """Export, strip what the machine left in the graph, add metadata, reload and compare with torch.

        Raises:
            ValueError: preprocessing or classes that no reader could use.
            RuntimeError: the reloaded file computes something else than the network.
        """
        parse_contract(json.dumps(metadata(source, options.opset, {})))
        graph = ScoringGraph(source)
        # Two images: a batch of one would be taken for a constant.
        example = torch.rand(2, 3, *source.size, generator=torch.Generator().manual_seed(0)) * 4 - 2
        names = [name for name, _, _ in source.outputs]
        # Traced at a size at which no map has a side of 1: torch.export would take that for a constant.
        traced = example if source.aspect is None else torch.zeros(2, 3, 1088, 1184)
        graph_names = [*names, *(LEVEL + name for name in source.model.levels)]
        inside = source.told_inside
        inputs = (traced, _sizes(traced)) if inside else (traced,)
        proto = _export(simplified(graph), inputs, options.opset, graph_names, any_size=source.aspect is not None)
        strip_provenance(proto)
        text = json.dumps(metadata(source, options.opset, keep_inside(proto, len(names))), sort_keys=True)
        onnx.helper.set_model_props(proto, {METADATA_KEY: text})
        onnx.checker.check_model(proto)
        content = proto.SerializeToString(deterministic=True)
        batches = [example, example[:1]]
        if source.aspect is not None:
            batches.append(example[:1].transpose(2, 3).repeat(1, 1, 1, 2))
        # Nearly all of it, so that what is told counts.
        fed: list[tuple[Tensor, ...]] = [(one, _sizes(one, 0.9)) if inside else (one,) for one in batches]
        difference = _difference(graph, content, fed, chosen_inside=source.chosen_inside)
        aside = path.with_name(path.name + ".part")
        aside.write_bytes(content)
        aside.replace(path)
        facts = {"opset": options.opset, "max_difference": difference}
        return ExportedFile(format=options.format, path=path, bytes=path.stat().st_size, facts=facts)


def _sizes(images: Tensor, share: float = 1.0) -> Tensor:
    """N2: this share of the input's height and width, for each image."""
    return torch.tensor([[float(int(side * share)) for side in images.shape[2:]]]).repeat(len(images), 1)


def simplified(graph: ScoringGraph) -> ScoringGraph:
    """A copy that computes the same with batch norms folded into their convolutions and nothing done in place.

    The exporter comes to the same graph by itself, through decompositions that take three times as long. Convolutions
    whose batch norm is not their neighbour in a `Sequential` are left to it.
    """
    graph = copy.deepcopy(graph)
    for module in graph.modules():
        if getattr(module, "inplace", False):
            module.inplace = False  # type: ignore[assignment]
        if not isinstance(module, nn.Sequential):
            continue
        names = list(module._modules)
        for first, second in itertools.pairwise(names):
            conv, norm = module._modules[first], module._modules[second]
            if isinstance(conv, nn.Conv2d) and type(norm) is nn.BatchNorm2d:
                module._modules[first] = nn.utils.fuse_conv_bn_eval(conv, norm)
                module._modules[second] = nn.Identity()
    return graph


def keep_inside(proto: onnx.ModelProto, outputs: int) -> dict[str, str]:
    """Makes the levels, which are outputs after the first `outputs`, inner tensors again. Returns tensor to level.

    They were outputs for their names' sake. A reader of the file gets the scores alone.
    """
    makers = {made: node for node in proto.graph.node for made in node.output}
    found = {}
    for value in list(proto.graph.output)[outputs:]:
        tensor, node = value.name, makers[value.name]
        if node.op_type == "Identity":  # a tensor that already had a name
            tensor = node.input[0]
            proto.graph.node.remove(node)
        found[tensor] = value.name.removeprefix(LEVEL)
        proto.graph.output.remove(value)
    # A classifier's scores as a map of one position are the output anyway. Other maps stay, also those that nothing else
    # reads: a transformer's tokens are put in order as a map for the level alone, and a runtime drops what nobody asks for.
    wanted = {tensor for tensor, level in found.items() if level != "logits"}
    while dead := _unread(proto.graph, wanted):
        for node in dead:
            proto.graph.node.remove(node)
    made = {tensor for node in proto.graph.node for tensor in node.output}
    return {tensor: level for tensor, level in found.items() if tensor in made}


def _unread(graph: onnx.GraphProto, wanted: set[str]) -> list[onnx.NodeProto]:
    inner = [node.attribute for node in graph.node]
    bodies = [attribute.g for attributes in inner for attribute in attributes if attribute.HasField("g")]
    read = {name for body in (graph, *bodies) for node in body.node for name in node.input}
    read |= {value.name for body in (graph, *bodies) for value in body.output}
    return [node for node in graph.node if not (read | wanted) & set(node.output)]


def _export(
    graph: nn.Module, example: tuple[Tensor, ...], opset: int, outputs: list[str], *, any_size: bool = False
) -> onnx.ModelProto:
    batch = {0: torch.export.Dim("batch", min=1)}
    dimensions = dict(batch)
    if any_size:
        # No network of ours takes less than 16 pixels a side; the export needs some lower bound.
        dimensions |= {2: torch.export.Dim("height", min=16), 3: torch.export.Dim("width", min=16)}
    talkative = logging.getLogger("torch.onnx")
    level = talkative.level
    talkative.setLevel(logging.ERROR)
    try:
        with warnings.catch_warnings(), torch.no_grad():
            warnings.simplefilter("ignore")
            program = torch.onnx.export(
                graph,
                example,
                dynamo=True,
                opset_version=opset,
                input_names=[INPUT_NAME, INSIDE_NAME][: len(example)],
                output_names=outputs,
                dynamic_shapes=dict(zip(("image", "size"), (dimensions, batch)[: len(example)], strict=False)),
                external_data=False,
                verbose=False,
                custom_translation_table=translations(),
            )
    finally:
        talkative.setLevel(level)
    assert program is not None
    return program.model_proto


def strip_provenance(proto: onnx.ModelProto) -> None:
    """Remove traces of the exporting machine: each node carries a stack trace with its file paths."""
    proto.doc_string = ""
    for holder in (proto.graph, *proto.functions):
        del holder.metadata_props[:]
        holder.doc_string = ""
        for node in holder.node:
            del node.metadata_props[:]
            node.doc_string = ""
        for value in (*holder.value_info, *getattr(holder, "initializer", ())):
            del value.metadata_props[:]
            value.doc_string = ""
    for value in (*proto.graph.input, *proto.graph.output):
        del value.metadata_props[:]
        value.doc_string = ""


def _difference(
    graph: nn.Module, content: bytes, batches: list[tuple[Tensor, ...]], *, chosen_inside: bool = False
) -> float:
    """Largest absolute difference between the reloaded file and torch over these batches: inputs of the graph.

    Of a graph that chooses candidates: largest share of candidates that the other side has not.
    """
    options = onnxruntime.SessionOptions()
    options.log_severity_level = 3
    session = onnxruntime.InferenceSession(content, options, providers=["CPUExecutionProvider"])
    worst = 0.0
    for batch in batches:
        with torch.no_grad():
            expected = [one.numpy() for one in graph(*batch)]
        names = (INPUT_NAME, INSIDE_NAME)
        returned = session.run(None, {name: one.numpy() for name, one in zip(names, batch, strict=False)})
        expected = expected[: len(returned)]
        if chosen_inside:
            lost = max(_lost(returned, expected), _lost(expected, returned))
            if not lost <= MAX_LOST:
                raise RuntimeError(f"{lost:.1%} of the exported graph's candidates are not the network's")
            worst = max(worst, lost)
            continue
        for found, wanted in zip(returned, expected, strict=True):
            if found.shape != wanted.shape:
                raise RuntimeError(f"the exported graph returns {found.shape}, the network {wanted.shape}")
            difference = float(np.abs(found - wanted).max())
            # Written so that NaN fails too.
            if not difference <= MAX_RELATIVE_DIFFERENCE * max(1.0, float(np.abs(wanted).max())):
                raise RuntimeError(f"the exported graph differs from the network by {difference}")
            worst = max(worst, difference)
    return worst


def _lost(found: list[np.ndarray], wanted: list[np.ndarray]) -> float:
    """Share of the candidates in `found` (scores NAK, boxes NAK4) that `wanted` has not, over the batch."""
    lost = []
    for scores, boxes, other_scores, other_boxes in zip(*found, *wanted, strict=True):
        # The first class's box and all scores tell candidates apart.
        apart = np.abs(boxes[:, None, 0] - other_boxes[None, :, 0]).max(axis=2)
        nearest = apart.argmin(axis=1)
        close = apart.min(axis=1) <= SAME_BOX
        lost.append(1 - (close & (np.abs(scores - other_scores[nearest]).max(axis=1) <= SAME_SCORE)).mean())
    return float(np.mean(lost))


EXPORTER = OnnxExporter()
