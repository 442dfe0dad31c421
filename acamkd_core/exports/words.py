"""How each task is spoken of in what people download."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class TaskWords:
    """How a task is spoken of: Hugging Face's identifiers, and words for readers."""

    pipeline: str
    name: str
    tags: tuple[str, ...]
    metric_key: str  # in our metrics
    metric_type: str  # Hugging Face's
    metric: str
    class_metric: str
    agreement: str
    example: str
    graph: str
    limit: str


WORDS = {
    "semantic_segmentation": TaskWords(
        pipeline="image-segmentation",
        name="Semantic segmentation",
        tags=("semantic-segmentation", "image-segmentation"),
        metric_key="miou",
        metric_type="mean_iou",
        metric="mIoU",
        class_metric="IoU",
        agreement="equal pixels",
        example="```\npip install -r requirements.txt\npython predict.py image.jpg -o overlay.png --mask ids.png\n```\n\n"
        "It prints the share of each class and writes the overlay. From Python:\n\n"
        "```python\nfrom pathlib import Path\nfrom predict import Segmenter, read_image\n\n"
        'segmenter = Segmenter(Path("model.onnx"))\n'
        'ids = segmenter.ids(read_image(Path("image.jpg")))   '
        "# {height} x {width} class ids, named in segmenter.contract.classes\n```\n\n",
        graph="returns `logits` (N x classes x H x W).\n",
        limit="gives every pixel one of them, also where none fits",
    ),
    "detection": TaskWords(
        pipeline="object-detection",
        name="Object detection",
        tags=("object-detection",),
        metric_key="map",
        metric_type="mean_average_precision",
        metric="mAP",
        class_metric="AP",
        agreement="equal detections",
        example="```\npip install -r requirements.txt\npython predict.py image.jpg -o overlay.png --json boxes.json\n```\n\n"
        "It prints every object that it found and draws the boxes. From Python:\n\n"
        "```python\nfrom pathlib import Path\nfrom predict import Detector, read_image\n\n"
        'detector = Detector(Path("model.onnx"))\n'
        'found = detector.detect(read_image(Path("image.jpg")))   '
        "# boxes (x1 y1 x2 y2 in the image's pixels), scores, labels\n```\n\n",
        graph="returns `scores` (N x candidates x classes) and `boxes` (N x candidates x 4, pixels of the input); "
        "the metadata says how `predict.py` chooses among candidates.\n",
        limit="finds nothing else; small, crowded and cut-off objects are missed most",
    ),
    "classification": TaskWords(
        pipeline="image-classification",
        name="Image classification",
        tags=("image-classification",),
        metric_key="top1",
        metric_type="accuracy",
        metric="top-1",
        class_metric="Accuracy",
        agreement="equal classes",
        example="```\npip install -r requirements.txt\npython predict.py image.jpg --json classes.json\n```\n\n"
        "It prints the surest classes with their probabilities. From Python:\n\n"
        "```python\nfrom pathlib import Path\nfrom predict import Classifier, read_image\n\n"
        'classifier = Classifier(Path("model.onnx"))\n'
        'found = classifier.classify(read_image(Path("image.jpg")))   '
        "# (name, probability) of the five surest\n```\n\n",
        graph="returns `logits` (N x classes); their softmax are the probabilities.\n",
        limit="gives every image one of them, also where none fits",
    ),
}
