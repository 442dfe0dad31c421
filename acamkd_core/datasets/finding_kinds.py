"""What an inspection can find: how bad each kind is, and its words."""

from __future__ import annotations

import re

from acamkd_core.spec.inspection import Severity

UNITS = (
    "boxes are in pixels of the stored image: these may be fractions of it (0 to 1), corners where width and height are due, "
    "or of images before they were made smaller"
)
# Code -> (severity, sentence with {count}, {detail} and [one|many] of it, hint). An error is what loading a sample would fail on;
# what makes results doubtful is a warning, as the owner of the data may have reasons. A split that is to be scored or trained
# on and has no label at all is an error too: every student would score 0. So are boxes that cannot be meant: see `box_labels`.
KINDS: dict[str, tuple[Severity, str, str | None]] = {
    "dataset.unreadable": ("error", "{count} [file|files] cannot be read ({detail})", "replace or remove them"),
    "dataset.empty_file": (
        "error",
        "{count} [file|files] [is|are] empty",
        "copy them again: an interrupted copy leaves such files",
    ),
    "dataset.image_mode": (
        "error",
        "{count} [image|images] [has|have] more than 8 bits a channel",
        "convert them to 8 bits",
    ),
    "dataset.mask_mode": (
        "error",
        "{count} [mask|masks] [is|are] neither 8-bit ids, palette nor RGB",
        "save them as 8-bit PNG",
    ),
    "dataset.missing_mask": (
        "error",
        "{count} [image|images] [has|have] no mask",
        "add the masks, or list the images as `splits.unlabelled`",
    ),
    "dataset.mask_without_image": (
        "warning",
        "{count} [mask|masks] [has|have] no image: [it is|they are] left out",
        None,
    ),
    "dataset.size_mismatch": (
        "error",
        "{count} [mask|masks] [has|have] another size than [its|their] image ({detail})",
        None,
    ),
    "dataset.ids_outside_classes": (
        "error",
        "{count} [mask|masks] [holds|hold] ids that no class has: {detail}",
        "add the classes, or choose the ignore id that the masks use",
    ),
    "dataset.all_ignored": (
        "warning",
        "{count} [mask|masks] [holds|hold] nothing but the ignore id",
        "such images teach nothing",
    ),
    "dataset.duplicate_images": ("warning", "{count} [image|images] [occurs|occur] twice in the split", None),
    "dataset.shared_images": (
        "warning",
        "{count} [image|images] [is|are] also in {detail}: scores on [it|them] mean nothing",
        "remove them from one of the splits",
    ),
    "dataset.missing_image": (
        "error",
        "{count} [listed image|listed images] [does|do] not exist",
        "copy them, or drop them",
    ),
    "dataset.image_twice": ("error", "{count} [image|images] [is|are] listed twice", "list each image once"),
    "dataset.unknown_image": (
        "error",
        "{count} [box|boxes] [belongs|belong] to an image that is not listed (ids {detail})",
        None,
    ),
    "dataset.unknown_category": (
        "error",
        "{count} [box|boxes] [has|have] a category that the file does not list: {detail}",
        "add the category, or drop the boxes",
    ),
    "dataset.image_size": (
        "error",
        "{count} [image|images] [has|have] another size than the annotation file says ({detail})",
        "boxes would sit in the wrong place: scale them, or correct width and height",
    ),
    "dataset.bad_boxes": (
        "warning",
        "{count} [box|boxes] [has|have] no size, or [is|are] no numbers: [it is|they are] left out ({detail})",
        None,
    ),
    "dataset.boxes_elsewhere": (
        "error",
        "{count} [box|boxes] [lies|lie] wholly outside [its|their] image ({detail})",
        UNITS,
    ),
    "dataset.boxes_far_outside": (
        "error",
        "{count} of {detail} boxes lie more outside than inside their images (a tenth may)",
        UNITS,
    ),
    "dataset.boxes_in_fractions": (
        "error",
        "{count} of {detail} boxes [ends|end] within the first pixel of [its|their] image, as fractions of it do",
        UNITS,
    ),
    "dataset.boxes_outside": (
        "warning",
        "{count} [box|boxes] [reaches|reach] beyond [its|their] image: training cuts [it|them]",
        None,
    ),
    "dataset.no_boxes": ("warning", "{count} [image|images] [has|have] no box: [it is|they are] background", None),
    "dataset.category_gaps": (
        "warning",
        "the category ids have gaps ({detail}): channels follow the order of the ids",
        "a foreign detector may count its channels by id",
    ),
    "dataset.missing_annotation": (
        "error",
        "{count} [image|images] [has|have] no annotation file",
        "add them, or list the images as `splits.unlabelled`",
    ),
    "dataset.annotation_unreadable": (
        "error",
        "{count} [annotation file|annotation files] cannot be read ({detail})",
        None,
    ),
    "dataset.unknown_name": (
        "error",
        "{count} [object|objects] [is|are] of a class that is not known: {detail}",
        "write your classes' names into a classes.json beside JPEGImages",
    ),
    "dataset.label_line": (
        "error",
        "{count} [line|lines] of label files [is|are] not `class x y width height` ({detail})",
        "correct or remove them",
    ),
    "dataset.not_normalised": (
        "error",
        "{count} [box|boxes] [has|have] values outside 0 to 1 ({detail})",
        "YOLO's labels are fractions of the image's width and height, not pixels",
    ),
    "dataset.class_out_of_range": (
        "error",
        "{count} [box|boxes] [has|have] a class that data.yaml does not name: {detail}",
        "ids count from 0: add the names, or correct the labels",
    ),
    "dataset.duplicate_boxes": (
        "warning",
        "{count} [box|boxes] [is|are] written twice: [it is|they are] taken once",
        None,
    ),
    "dataset.missing_label_file": (
        "warning",
        "{count} [image|images] [has|have] no label file: [it is|they are] background",
        None,
    ),
    "dataset.label_without_image": (
        "warning",
        "{count} [label file|label files] [has|have] no image: [it is|they are] left out",
        None,
    ),
    "dataset.unknown_class": (
        "error",
        "{count} [folder|folders] [is|are] of no class of the training split: {detail}",
        "all splits need the same class folders",
    ),
    "dataset.image_without_class": (
        "warning",
        "{count} [image|images] [lies|lie] in no class folder: [it is|they are] left out",
        None,
    ),
    "dataset.other_files": (
        "warning",
        "{count} [file|files] [is|are] no [image|images] by [its|their] ending: [it is|they are] left out",
        None,
    ),
    "dataset.contradicting_labels": (
        "warning",
        "{count} [image|images] [is|are] the same as one of another class",
        "remove those of the wrong class: they can only be learnt by heart",
    ),
    "dataset.exif_rotated": (
        "warning",
        "{count} [image|images] [has|have] a rotation in the file's EXIF data, which is not applied: pixels count as stored",
        "if the labels were drawn on the turned picture, turn the files' pixels, e.g. `mogrify -auto-orient`",
    ),
    "dataset.grey_images": ("warning", "{count} [image|images] [is|are] grey, most others are not", None),
    "dataset.tiny_images": (
        "warning",
        "{count} [image|images] [has|have] a side below {detail} pixels, most others are larger",
        None,
    ),
    "dataset.class_without_images": ("warning", "{count} [class|classes] [has|have] no image: {detail}", None),
    "dataset.class_without_boxes": ("warning", "{count} [class|classes] [has|have] no box: {detail}", None),
    "dataset.class_without_pixels": ("warning", "{count} [class|classes] [has|have] no pixel: {detail}", None),
    "dataset.nothing_to_learn": (
        "error",
        "the split has no {detail} to learn from",
        "label its images, or list them as `splits.unlabelled` beside labelled ones",
    ),
    "dataset.nothing_to_score": ("error", "the split has no labelled {detail}", "label some of its images"),
    "dataset.class_never_trained": (
        "warning",
        "{count} [class|classes] [is|are] scored but never trained on: {detail}",
        "add images that show them, or drop the classes",
    ),
}


def in_words(code: str, count: int, detail: str) -> tuple[Severity, str, str | None]:
    """(severity, sentence, hint) of a kind of finding."""
    severity, sentence, hint = KINDS[code]
    chosen = re.sub(r"\[([^|\]]*)\|([^\]]*)\]", lambda words: words[1 if count == 1 else 2], sentence)
    return severity, chosen.format(count=count, detail=detail), hint
