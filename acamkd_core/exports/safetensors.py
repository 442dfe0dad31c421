"""safetensors: weights with their architecture and preprocessing in the header. Can be a teacher or a start again."""

from __future__ import annotations

from pathlib import Path

from acamkd_core.exports.base import ExportedFile, ExportSource
from acamkd_core.native_file import write_native
from acamkd_core.spec.exports import SafetensorsExport
from acamkd_core.spec.native import NativeHeader


def header(source: ExportSource) -> NativeHeader:
    """What the file says of its network: all that is needed to build and feed it."""
    return NativeHeader.model_validate(
        {
            "task": source.task,
            "arch": source.arch,
            "num_classes": len(source.classes),
            "class_names": [entry.name for entry in source.classes],
            "preprocess": source.preprocess.model_dump(),
            "extra": {
                "colors": [list(entry.color) for entry in source.classes],
                "size": list(source.size),
                **({"short_side": source.short_side} if source.short_side is not None else {}),
                "resize": source.resize,
                "weights_digest": source.weights_digest,
            },
        }
    )


class SafetensorsExporter:
    """Writes `model.safetensors`."""

    file_name = "model.safetensors"
    gated = False

    def write(self, source: ExportSource, options: SafetensorsExport, path: Path) -> ExportedFile:
        """Store the state dict, with `header` as metadata."""
        write_native(path, source.state if source.state is not None else source.model.state_dict(), header(source))
        return ExportedFile(format=options.format, path=path, bytes=path.stat().st_size)


EXPORTER = SafetensorsExporter()
