"""Where images come from. One class a format; `format` selects it."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, Any, Literal

from pydantic import Field, ValidationError, model_validator

from acamkd_core.spec.base import SpecModel
from acamkd_core.spec.errors import SpecInvalid
from acamkd_core.spec.problems import problems_of


class Splits(SpecModel):
    """Names of the folders (or lists) that hold each split. `val` selects, `test` is scored once at the end."""

    train: str = Field(default="train", description="Split that the student learns from.")
    val: str = Field(default="val", description="Split that selects the best checkpoint.")
    test: str | None = Field(
        default=None, description="Split scored once at the end; automatic: `test` when the dataset has one."
    )
    unlabelled: str | None = Field(
        default=None, description="Extra images without labels: they give the distillation terms only."
    )


class AutoDataset(SpecModel):
    """A folder whose format is detected before anything else happens (by CLI, worker or server inspection)."""

    format: Literal["auto"] = Field(default="auto", description="Detect the format from the folder's layout.")
    root: str = Field(description="Folder of the dataset.")
    splits: Splits = Field(default_factory=Splits, description="Names of the splits.")


class MaskFolderDataset(SpecModel):
    """`images/<split>/*` with `masks/<split>/<same stem>.png` and a `classes.json`."""

    format: Literal["mask_folder"] = Field(description="Images and id or palette masks in parallel folders.")
    root: str = Field(description="Folder that holds images/, masks/ and classes.json.")
    splits: Splits = Field(default_factory=Splits, description="Names of the splits.")
    ignore_id: int | None = Field(
        default=None,
        ge=0,
        le=255,
        description="Mask id that is neither trained nor scored; automatic: from classes.json, else 255.",
    )
    image_folder: str = Field(default="images", description="Name of the folder with the images.")
    mask_folder: str = Field(default="masks", description="Name of the folder with the masks.")


class CityscapesDataset(SpecModel):
    """Cityscapes as it is downloaded: `leftImg8bit/<split>/<city>/` with `gtFine/<split>/<city>/`."""

    format: Literal["cityscapes"] = Field(description="Cityscapes: 19 classes, everything else ignored.")
    root: str = Field(description="Folder that holds leftImg8bit/ and gtFine/.")
    splits: Splits = Field(
        default_factory=Splits, description="Names of the splits; `train_extra` can be `splits.unlabelled`."
    )
    annotations: Literal["gtFine", "gtCoarse"] = Field(default="gtFine", description="Which masks to take.")
    labels: Literal["labelIds", "labelTrainIds"] | None = Field(
        default=None, description="Ids in the masks; automatic: labelIds, or labelTrainIds where only those are there."
    )


class CocoDataset(SpecModel):
    """Boxes in COCO's JSON: one annotation file and one image folder a split."""

    format: Literal["coco"] = Field(description="COCO JSON with boxes.")
    root: str = Field(description="Folder that annotation files and images lie below.")
    splits: Splits = Field(default_factory=Splits, description="Names of the splits, e.g. train2017 and val2017.")
    annotation_file: str | None = Field(
        default=None,
        description="Annotation file of a split below `root`, with {split} for its name; automatic: annotations/{split}.json, "
        "annotations/instances_{split}.json, boxes/{split}.json or {split}/_annotations.coco.json.",
    )
    image_folder: str | None = Field(
        default=None,
        description="Folder of a split's images below `root`, with {split} for its name; automatic: images/{split}, "
        "{split}, or images.",
    )
    empty_images: Literal["keep", "skip"] = Field(
        default="keep",
        description="Training images without a box: `keep` them as background, or `skip` them as the COCO recipes do.",
    )


class VocDataset(SpecModel):
    """Pascal VOC as it is unpacked: JPEGImages, ImageSets, SegmentationClass and Annotations."""

    format: Literal["voc"] = Field(description="Pascal VOC: palette masks, or boxes in XML.")
    root: str = Field(description="Folder that holds JPEGImages, or a VOC<year> folder or VOCdevkit with one.")
    splits: Splits = Field(default_factory=Splits, description="Names of the lists below ImageSets.")
    labels: Literal["masks", "boxes"] | None = Field(
        default=None,
        description="Which labels to take; automatic: those of the job's task, else masks where there are any.",
    )
    difficult: Literal["ignore", "keep"] = Field(
        default="ignore",
        description="Boxes marked difficult: `ignore` neither trains on them nor counts them, as the challenge does.",
    )


class YoloDataset(SpecModel):
    """YOLO's layout: a data.yaml with names and splits, images/ and labels/ with one text file an image."""

    format: Literal["yolo"] = Field(description="YOLO: data.yaml, images/ and labels/.")
    root: str = Field(description="Folder that holds data.yaml, and images and labels below it.")
    splits: Splits = Field(default_factory=Splits, description="Keys of data.yaml that name the splits' images.")
    data_file: str | None = Field(
        default=None, description="Name of data.yaml below `root`; automatic: data.yaml, or the only YAML file."
    )


class ImageFolderDataset(SpecModel):
    """One folder a class in each split, as ImageNet and torchvision's ImageFolder have it: `<split>/<class>/*`."""

    format: Literal["image_folder"] = Field(description="Classification: <split>/<class>/ with images.")
    root: str = Field(description="Folder that holds the splits' folders.")
    splits: Splits = Field(default_factory=Splits, description="Names of the splits' folders.")


class ScenesDataset(SpecModel):
    """Procedural street scenes, made on the spot: no download, same pixels for the same seed everywhere."""

    format: Literal["scenes"] = Field(description="Built-in procedural street scenes.")
    root: str | None = Field(default=None, description="Folder to generate into; automatic: the data folder's cache.")
    splits: Splits = Field(default_factory=lambda: Splits(test="test"), description="Names of the splits.")
    train_images: int = Field(default=240, ge=1, le=20_000, description="Number of training images.")
    val_images: int = Field(default=60, ge=1, le=5_000, description="Number of validation images.")
    test_images: int = Field(default=60, ge=1, le=5_000, description="Number of test images.")
    unlabelled_images: int = Field(
        default=0, ge=0, le=20_000, description="Extra images without masks, for the distillation terms only."
    )
    size: tuple[int, int] = Field(default=(96, 160), description="Height and width of an image, 32 to 1024 pixels.")
    seed: int = Field(default=0, ge=0, description="Seed of the generator.")

    @model_validator(mode="after")
    def _sane_size(self) -> ScenesDataset:
        if not all(32 <= side <= 1024 for side in self.size):
            raise ValueError("size needs a height and a width from 32 to 1024 pixels")
        return self


class RegisteredDataset(SpecModel):
    """A dataset known to the server: `dataset:name` or `dataset:name@version`. The server replaces it on submit."""

    format: Literal["registered"] = Field(description="A dataset registered on the server.")
    name: str = Field(description="Name of the dataset, optionally with @version.")
    splits: Splits = Field(default_factory=Splits, description="Names of the splits.")


DatasetSpec = Annotated[
    AutoDataset
    | MaskFolderDataset
    | CityscapesDataset
    | CocoDataset
    | VocDataset
    | YoloDataset
    | ImageFolderDataset
    | ScenesDataset
    | RegisteredDataset,
    Field(discriminator="format"),
]


# Formats that are a folder: what a dataset can be registered as. One that is not listed here is opened by detection.
FolderDataset = MaskFolderDataset | CityscapesDataset | CocoDataset | VocDataset | YoloDataset | ImageFolderDataset
FOLDER_FORMATS: dict[str, type[FolderDataset]] = {
    "mask_folder": MaskFolderDataset,
    "cityscapes": CityscapesDataset,
    "coco": CocoDataset,
    "voc": VocDataset,
    "yolo": YoloDataset,
    "image_folder": ImageFolderDataset,
}


def folder_dataset(format: str, root: str, options: Mapping[str, Any]) -> AutoDataset | FolderDataset:
    """The dataset that a registration stands for.

    Args:
        format: `auto` or a folder format; one that is not listed is opened by detection.
        options: further fields of the format, `splits` among them.

    Raises:
        SpecInvalid: an option that the format does not have, or a bad value; its field is `options.<name>`.
    """
    kind = FOLDER_FORMATS.get(format, AutoDataset)
    given = {**options, "format": format if format in FOLDER_FORMATS else "auto", "root": root}
    try:
        return kind.model_validate(given)
    except ValidationError as error:
        raise SpecInvalid([problem.within("options") for problem in problems_of(error, kind)]) from None


def dataset_from_shorthand(value: object) -> object:
    """`scenes`, `dataset:name[@version]`, a folder, or an object with a `root` alone, as the object form."""
    if isinstance(value, dict) and "root" in value and "format" not in value:
        return {"format": "auto", **value}
    return dataset_from_string(value) if isinstance(value, str) else value


def dataset_from_string(text: str) -> dict[str, object]:
    """`scenes`, `dataset:name[@version]` or a folder, as the object form."""
    if text == "scenes":
        return {"format": "scenes"}
    if text.startswith("dataset:"):
        return {"format": "registered", "name": text.removeprefix("dataset:")}
    return {"format": "auto", "root": text}
