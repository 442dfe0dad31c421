"""From a dataset spec to an opened dataset: the one place that knows every format."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from acamkd_core.datasets.mask_folder import MaskFolder
from acamkd_core.datasets.paths import resolve_root
from acamkd_core.datasets.scenes import open_scenes
from acamkd_core.spec.datasets import AutoDataset, DatasetSpec, MaskFolderDataset, RegisteredDataset, ScenesDataset
from acamkd_core.spec.errors import CoreError


def open_dataset(
    spec: DatasetSpec, *, roots: Sequence[Path] = (), cache: Path | None = None, strict: bool = True
) -> MaskFolder:
    """Open a dataset: files are listed and classes read, no pixel is decoded. Scenes are generated when missing.

    Args:
        spec: the spec's `dataset`.
        roots: folders that datasets may lie in; empty: anywhere (a user's own machine).
        cache: where generated datasets are kept; needed for `scenes` without a root.
        strict: refuse missing masks at once; inspection uses False, to report them all.

    Raises:
        CoreError: `dataset.*`, naming the field of the spec and what was looked for.
    """
    if isinstance(spec, ScenesDataset):
        if spec.root is not None:
            # The folder may not exist yet: its parent has to lie inside the roots.
            parent = resolve_root(str(Path(spec.root).parent), roots)
            return open_scenes(spec, parent / Path(spec.root).name, roots=roots)
        if cache is None:
            raise CoreError("dataset.no_cache", "scenes need a folder to be generated into", field="dataset.root")
        return open_scenes(spec, cache)
    if isinstance(spec, RegisteredDataset):
        raise CoreError(
            "dataset.not_resolved",
            f"dataset:{spec.name} is known to a server only",
            hint="submit the job to the server, or give a folder",
            field="dataset.name",
            value=spec.name,
        )
    root = resolve_root(spec.root, roots)
    if isinstance(spec, AutoDataset):
        spec = detect(spec, root)
    return MaskFolder(spec, root, roots=roots, strict=strict)


def detect(spec: AutoDataset, root: Path) -> MaskFolderDataset:
    """The format of a folder, as the object form of the spec.

    Raises:
        CoreError: `dataset.unknown_format`, with what was looked for and what was found.
    """
    wanted = ("images", "masks", "classes.json")
    missing = [name for name in wanted if not (root / name).exists()]
    if not missing:
        return MaskFolderDataset(format="mask_folder", root=spec.root, splits=spec.splits)
    found = sorted(path.name for path in root.iterdir())[:12]
    raise CoreError(
        "dataset.unknown_format",
        f"no known dataset format in {root.name}: mask_folder needs {', '.join(wanted)}; missing {', '.join(missing)}",
        hint=f"found: {', '.join(found) or 'an empty folder'}",
        field="dataset.root",
        value=spec.root,
    )
