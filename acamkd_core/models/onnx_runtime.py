"""A teacher in an ONNX file, run by onnxruntime."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import onnxruntime
import torch
from torch import Tensor

from acamkd_core.onnx_file import parse
from acamkd_core.onnx_plan import OnnxPlan
from acamkd_core.spec.errors import CoreError


class OnnxRuntime:
    """A graph with exactly the wanted tensors as outputs.

    Args:
        path: a file that `onnx_file.read_onnx` has accepted.
        plan: which tensors are wanted.
        device: where results go; CUDA runs there when this onnxruntime can, else on the CPU.

    Raises:
        CoreError: `onnx.cannot_run`.
    """

    name = "onnxruntime"

    def __init__(self, path: Path, plan: OnnxPlan, device: torch.device) -> None:
        import onnx

        self.plan, self.device = plan, device
        model = parse(path.read_bytes(), plan.file.name)
        # Inner tensors become outputs, and what nobody wants is not computed: an upsampling, or a detector's decoding.
        known = {value.name: value for value in model.graph.output}
        wanted = [known.get(name) or onnx.ValueInfoProto(name=name) for name in plan.tensors]
        del model.graph.output[:]
        model.graph.output.extend(wanted)
        options = onnxruntime.SessionOptions()
        options.log_severity_level = 3
        options.intra_op_num_threads = torch.get_num_threads()
        # Between two calls the student trains on the same cores; a resume has to give the same numbers.
        options.add_session_config_entry("session.intra_op.allow_spinning", "0")
        options.use_deterministic_compute = True
        try:
            self.session = onnxruntime.InferenceSession(
                model.SerializeToString(), options, providers=providers(device, onnxruntime.get_available_providers())
            )
        except Exception as error:  # onnxruntime's errors have no base of their own
            raise self._broken(error) from None
        self.parameters = plan.file.parameters
        self.half = plan.file.image.kind == "FLOAT16"

    @property
    def on_gpu(self) -> bool:
        """Whether the graph itself runs on a GPU."""
        return "CUDAExecutionProvider" in self.session.get_providers()

    def __call__(self, images: Tensor, tensors: list[str]) -> dict[str, Tensor]:
        """Normalised images N3HW to these of the wanted tensors, fp32 on `device`.

        Raises:
            CoreError: `onnx.cannot_run`, with onnxruntime's own words.
        """
        batch = images.detach().to("cpu", torch.float16 if self.half else torch.float32).contiguous().numpy()
        fed = {self.plan.file.input: batch}
        if self.plan.file.inside is not None:
            # What is padding is not known here. Levels do not depend on it; proposals may reach into it.
            fed[self.plan.file.inside] = np.tile(np.array(batch.shape[2:], dtype=np.float32), (len(batch), 1))
        try:
            found = self.session.run(tensors, fed)
        except Exception as error:
            raise self._broken(error, batch.shape) from None
        arrays = dict(zip(tensors, found, strict=True))
        return {name: torch.from_numpy(np.asarray(one)).to(self.device).float() for name, one in arrays.items()}

    def _broken(self, error: Exception, shape: tuple[int, ...] | None = None) -> CoreError:
        at = f" on images of {'x'.join(str(size) for size in shape)}" if shape else ""
        return CoreError(
            "onnx.cannot_run",
            f"onnxruntime cannot run {self.plan.file.name}{at}",
            hint=" ".join(str(error).split())[:300],
            field="teacher.weights",
        )


def providers(device: torch.device, available: list[str]) -> list[Any]:
    """What onnxruntime may compute with: CUDA where the run and its build have it, then the CPU."""
    if device.type != "cuda" or "CUDAExecutionProvider" not in available:
        return ["CPUExecutionProvider"]
    # The search for the fastest convolution may end differently each time, and TF32 has 10 bits of mantissa.
    exact = {"device_id": device.index or 0, "cudnn_conv_algo_search": "HEURISTIC", "use_tf32": 0}
    return [("CUDAExecutionProvider", exact), "CPUExecutionProvider"]
