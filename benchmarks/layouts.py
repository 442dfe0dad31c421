"""Random images and labels, laid out exactly as the downloaded datasets are: for tests of recipes and for full-size runs."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
from PIL import Image

Size = tuple[int, int]  # height, width

# COCO's 80 categories: ids rise to 90 with gaps.
COCO_IDS = [number for number in range(1, 91) if number not in (12, 26, 29, 30, 45, 66, 68, 69, 71, 83)]
COCO_NAMES = (
    "person", "bicycle", "car", "motorcycle", "airplane", "bus", "train", "truck", "boat", "traffic light",
    "fire hydrant", "stop sign", "parking meter", "bench", "bird", "cat", "dog", "horse", "sheep", "cow",
    "elephant", "bear", "zebra", "giraffe", "backpack", "umbrella", "handbag", "tie", "suitcase", "frisbee", "skis",
    "snowboard", "sports ball", "kite", "baseball bat", "baseball glove", "skateboard", "surfboard",
    "tennis racket", "bottle", "wine glass", "cup", "fork", "knife", "spoon", "bowl", "banana", "apple", "sandwich",
    "orange", "broccoli", "carrot", "hot dog", "pizza", "donut", "cake", "chair", "couch", "potted plant", "bed",
    "dining table", "toilet", "tv", "laptop", "mouse", "remote", "keyboard", "cell phone", "microwave", "oven",
    "toaster", "sink", "refrigerator", "book", "clock", "vase", "scissors", "teddy bear", "hair drier", "toothbrush",
)  # fmt: skip

CLASSES = {"cityscapes": 19, "coco": len(COCO_IDS), "voc": 21, "image_folder": 1000}


def picture(rng: np.random.Generator, size: Size) -> np.ndarray:
    """Blocks of random colour with noise over them (HW3 uint8): no two alike, and small when compressed."""
    blocks = rng.integers(0, 256, (-(-size[0] // 16), -(-size[1] // 16), 3))
    whole = np.repeat(np.repeat(blocks, 16, axis=0), 16, axis=1)[: size[0], : size[1]]
    pixels: np.ndarray = np.clip(whole + rng.integers(-8, 9, (*size, 1)), 0, 255).astype(np.uint8)
    return pixels


def regions(rng: np.random.Generator, size: Size, ids: list[int]) -> np.ndarray:
    """Blocks of random ids (HW uint8); every id is there where the image is large enough."""
    rows, columns = -(-size[0] // 8), -(-size[1] // 8)
    blocks = rng.choice(ids, (rows, columns)).astype(np.uint8)
    few = rng.permutation(ids)[: blocks.size]
    blocks.flat[: len(few)] = few
    whole: np.ndarray = np.repeat(np.repeat(blocks, 8, axis=0), 8, axis=1)
    return whole[: size[0], : size[1]]


def save(path: Path, image: Image.Image) -> None:
    """With the folders above it."""
    path.parent.mkdir(parents=True, exist_ok=True)
    image.save(path)


def write_cityscapes(root: Path, size: Size = (1024, 2048), train: int = 16, val: int = 4) -> Path:
    """`leftImg8bit/<split>/<city>/` and `gtFine/<split>/<city>/` with label ids, colours and polygons beside them."""
    for split, city, count in (("train", "aachen", train), ("val", "frankfurt", val)):
        for index in range(count):
            rng = np.random.default_rng([index, count, split == "val"])
            frame = f"{city}_{index:06d}_000019"
            save(
                root / "leftImg8bit" / split / city / f"{frame}_leftImg8bit.png",
                Image.fromarray(picture(rng, size)),
            )
            masks = root / "gtFine" / split / city
            ids = regions(rng, size, list(range(34)))
            save(masks / f"{frame}_gtFine_labelIds.png", Image.fromarray(ids))
            save(masks / f"{frame}_gtFine_instanceIds.png", Image.fromarray(ids.astype(np.uint16)))
            (masks / f"{frame}_gtFine_polygons.json").write_text("{}")
    return root


def write_coco(root: Path, size: Size = (480, 640), train: int = 16, val: int = 4) -> Path:
    """`annotations/instances_<split>2017.json`, `train2017/`, `val2017/`: boxes, a crowd, images upright and lying."""
    for split, count, start in (("train2017", train, 0), ("val2017", val, 10**6)):
        images, annotations = [], []
        for index in range(count):
            rng = np.random.default_rng([index, start])
            height, width = size if index % 4 else size[::-1]
            number = start + index + 1
            name = f"{number:012d}.jpg"
            save(root / split / name, Image.fromarray(picture(rng, (height, width))))
            images.append({"id": number, "file_name": name, "height": height, "width": width, "license": 1})
            for box in range(6):
                w, h = (float(rng.uniform(0.15, 0.5) * side) for side in (width, height))
                x, y = float(rng.uniform(0, width - w)), float(rng.uniform(0, height - h))
                crowd = int(box == 5 and index % 3 == 0)
                annotations.append(
                    {
                        "id": number * 10 + box, "image_id": number, "category_id": COCO_IDS[(number * 7 + box) % 80],
                        "bbox": [round(v, 2) for v in (x, y, w, h)], "area": round(w * h, 2), "iscrowd": crowd,
                        "segmentation": {"counts": [0], "size": [height, width]} if crowd else [[x, y, x + w, y, x + w, y + h]],
                    }
                )  # fmt: skip
        categories = [
            {"id": number, "name": name, "supercategory": "thing"}
            for number, name in zip(COCO_IDS, COCO_NAMES, strict=True)
        ]
        content = {
            "info": {"year": 2017}, "licenses": [{"id": 1, "name": "none"}], "images": images, "annotations": annotations,
            "categories": categories,
        }  # fmt: skip
        file = root / "annotations" / f"instances_{split}.json"
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(json.dumps(content))
    return root


def write_voc(root: Path, size: Size = (375, 500), train: int = 16, val: int = 4) -> Path:
    """`VOC2012` in a VOCdevkit: JPEGImages, palette masks in SegmentationClass, lists in ImageSets/Segmentation."""
    year = root / "VOC2012"
    lists = year / "ImageSets" / "Segmentation"
    lists.mkdir(parents=True, exist_ok=True)
    palette = [value for number in range(256) for value in (number * 53 % 256, number * 97 % 256, number * 193 % 256)]
    palette[:3] = [0, 0, 0]
    for split, count, start in (("train", train, 0), ("val", val, 5000)):
        names = [f"2007_{start + index:06d}" for index in range(count)]
        for index, name in enumerate(names):
            rng = np.random.default_rng([index, start, 7])
            shape = size if index % 4 else size[::-1]
            save(year / "JPEGImages" / f"{name}.jpg", Image.fromarray(picture(rng, shape)))
            mask = Image.fromarray(regions(rng, shape, [*range(21), 255]))
            mask.putpalette(palette)
            save(year / "SegmentationClass" / f"{name}.png", mask)
        for title in (split, *(("trainaug",) if split == "train" else ())):
            (lists / f"{title}.txt").write_text("".join(f"{name}\n" for name in names))
    return root


def write_imagenet(root: Path, size: Size = (375, 500), train: int = 16, val: int = 4) -> Path:
    """`train/<class>/` and `val/<class>/`: a thousand classes by their WordNet ids, with few images among them."""
    classes = [f"n{1_440_764 + 7 * number:08d}" for number in range(CLASSES["image_folder"])]
    for split, count, start in (("train", train, 0), ("val", val, 50_000)):
        for name in classes:
            (root / split / name).mkdir(parents=True, exist_ok=True)
        for index in range(count):
            rng = np.random.default_rng([index, start, 3])
            image = Image.fromarray(picture(rng, size if index % 4 else size[::-1]))
            name = classes[index * 37 % len(classes)]
            save(root / split / name / f"{name}_{index + start}.JPEG", image)
    return root


WRITERS = {"cityscapes": write_cityscapes, "coco": write_coco, "voc": write_voc, "image_folder": write_imagenet}
"""By the format of a job's dataset; full size by default."""
SIZES: dict[str, Size] = {
    "cityscapes": (1024, 2048),
    "coco": (480, 640),
    "voc": (375, 500),
    "image_folder": (375, 500),
}
