"""Result pages made from the committed JSON files of finished runs: `python -m benchmarks.tables`.

A test compares the committed pages with what this writes, so a number cannot be typed by hand.
"""

from __future__ import annotations

import json
import statistics
from collections import defaultdict
from pathlib import Path
from typing import Any

from acamkd_core.spec.tasks import primary
from benchmarks.readings import READINGS

ROOT = Path(__file__).resolve().parents[1]
RESULTS = ROOT / "docs" / "results"
MINUS = "\N{MINUS SIGN}"
Run = dict[str, Any]

LABELS = {
    "none": "student alone",
    "logit": "logit KD",
    "feature_mse": "feature MSE",
    "feature_mse_matched": "feature MSE at ACAM's strength",
    "cwd": "CWD",
    "mgd": "MGD",
    "pkd": "PKD",
    "maskd": "MasKD",
    "fgd": "FGD",
    "acam": "ACAM-KD (default)",
    "acam_letter": "ACAM-KD (the paper's letter)",
    "acam_frozen": "ACAM-KD, masks frozen",
    "acam_shuffled": "ACAM-KD, masks shuffled",
    "none_half_rate": "student alone, half the rate",
    "none_double_rate": "student alone, double the rate",
}


def load(folder: Path) -> list[Run]:
    """All finished runs of a study, by name."""
    return [json.loads(path.read_text()) for path in sorted(folder.glob("*.json"), key=lambda path: path.stem)]


def signed(value: float) -> str:
    """With a sign, and a true minus."""
    return f"+{value:.2f}" if value >= 0 else f"{MINUS}{-value:.2f}"


def spread(values: list[float]) -> str:
    """Mean ± sample deviation (n seeds); one seed says so."""
    if not values:
        return ""
    if len(values) == 1:
        return f"{values[0]:.2f} (1 seed)"
    return f"{statistics.mean(values):.2f} ± {statistics.stdev(values):.2f} ({len(values)} seeds)"


def score(run: Run, stem: str = "test") -> float | None:
    """The primary metric of a run that succeeded: mIoU, or mAP for detection."""
    found = primary(run["metrics"], stem) if run["state"] == "succeeded" else None
    return None if found is None else float(found[1])


def tuned_score(run: Run) -> float:
    """What tuning compares: the best value on val, -1 for a run that has none."""
    found = primary(run["metrics"], "best")
    return -1.0 if found is None else float(found[1])


def by_arm(runs: list[Run]) -> dict[str, dict[int, Run]]:
    """arm -> seed -> run."""
    grouped: dict[str, dict[int, Run]] = defaultdict(dict)
    for run in runs:
        grouped[run["arm"]][run["seed"]] = run
    return grouped


def arms_table(runs: list[Run], baseline: str = "none", metric: str = "mIoU") -> list[str]:
    """One row an arm: every seed's score on test, mean, and the paired difference to the baseline."""
    arms = by_arm(runs)
    seeds = sorted({run["seed"] for run in runs})
    than = "alone" if baseline == "none" else LABELS[baseline]
    lines = [
        f"| arm | {' | '.join(f'seed {s}' for s in seeds)} | test {metric} | minus {than}, paired | val {metric} | minutes |",
        f"| --- | {'--- | ' * len(seeds)}--- | --- | --- | --- |",
    ]
    alone = arms.get(baseline, {})
    for arm in [name for name in LABELS if name in arms]:
        cells, values, gains = [], [], []
        for seed in seeds:
            run = arms[arm].get(seed)
            value = score(run) if run else None
            cells.append("" if run is None else f"{value:.2f}" if value is not None else f"failed: {run['reason']}")
            if value is not None:
                values.append(value)
                other = score(alone[seed]) if seed in alone else None
                if other is not None and arm != baseline:
                    gains.append(value - other)
        val = [v for run in arms[arm].values() if (v := score(run, "best")) is not None]
        minutes = statistics.mean(run["minutes"] for run in arms[arm].values())
        gain = (
            ""
            if not gains
            else signed(statistics.mean(gains)) + (f" ± {statistics.stdev(gains):.2f}" if len(gains) > 1 else "")
        )
        lines.append(
            f"| {LABELS[arm]} | {' | '.join(cells)} | {spread(values)} | {gain} | {spread(val)} | {minutes:.1f} |"
        )
    return lines


def class_table(runs: list[Run]) -> list[str]:
    """Mean test IoU (detection: AP) per class and arm. Rare classes are noisy: read them as such."""
    arms = by_arm([run for run in runs if run["state"] == "succeeded"])
    names = [name for name in LABELS if name in arms]
    classes = list(next(iter(next(iter(arms.values())).values()))["per_class"])
    lines = [f"| class | {' | '.join(LABELS[name] for name in names)} |", f"| --- |{' --- |' * len(names)}"]
    for label in classes:
        cells = []
        for name in names:
            values = [run["per_class"][label] for run in arms[name].values() if run["per_class"].get(label) is not None]
            cells.append(f"{statistics.mean(values):.1f}" if values else "")
        lines.append(f"| {label} | {' | '.join(cells)} |")
    return lines


def teacher_lines(runs: list[Run], metric: str = "mIoU") -> list[str]:
    """A line a teacher; a second one was trained from the first one's spec on another platform."""
    lines = []
    for number, run in enumerate(runs):
        facts = run["profile"].get("student", {})
        start = f"Teacher {number + 1}, of the same spec" if number else "Teacher"
        size = f"{facts.get('parameters', 0) / 1e6:.2f} M parameters"
        lines += [f"{start}: {score(run) or 0:.2f} test {metric}, {size}, {run['minutes']:.1f} minutes.", ""]
    return lines


def extra_table(runs: list[Run], stems: dict[str, str]) -> list[str]:
    """Mean of further test metrics by arm. `stems`: metric key to column title."""
    arms = by_arm([run for run in runs if run["state"] == "succeeded"])
    lines = [f"| arm | {' | '.join(stems.values())} |", f"| --- |{' --- |' * len(stems)}"]
    for arm in [name for name in LABELS if name in arms]:
        cells = []
        for key in stems:
            values = [run["metrics"][f"test/{key}"] for run in arms[arm].values() if f"test/{key}" in run["metrics"]]
            cells.append(f"{statistics.mean(values):.1f}" if values else "")
        lines.append(f"| {LABELS[arm]} | {' | '.join(cells)} |")
    return lines


def tuning_table(runs: list[Run], metric: str = "mIoU") -> list[str]:
    """What was tried in half-length runs, and what val said."""
    pulled = any(run.get("pull") for run in runs)
    what = f"value: val {metric}" + (", median pull in brackets" if pulled else "")
    lines = [f"| arm | tried ({what}) | chosen |", "| --- | --- | --- |"]
    grouped: dict[str, list[Run]] = defaultdict(list)
    for run in runs:
        grouped[run["arm"]].append(run)
    for arm in [name for name in LABELS if name in grouped]:
        tried = sorted(grouped[arm], key=lambda run: run["value"])
        scored = [(tuned_score(run), run["value"]) for run in tried]
        shown = ", ".join(
            (f"{value:g}: {found:.2f}" if found >= 0 else f"{value:g}: failed")
            + (f" [{run['pull']['median']:.2g}]" if run.get("pull") else "")
            for run, (found, value) in zip(tried, scored, strict=True)
        )
        lines.append(f"| {LABELS[arm]} | {shown} | {max(scored)[1]:g} |")
    return lines


def comparison(runs: list[Run], first: str, second: str) -> str:
    """A sentence on two arms, from paired seeds."""
    arms = by_arm(runs)
    pairs = [
        (a, b)
        for seed in sorted(set(arms.get(first, {})) & set(arms.get(second, {})))
        if (a := score(arms[first][seed])) is not None and (b := score(arms[second][seed])) is not None
    ]
    if not pairs:
        return ""
    gains = [a - b for a, b in pairs]
    mean = statistics.mean(gains)
    wins = sum(gain > 0 for gain in gains)
    text = f"{LABELS[first]} minus {LABELS[second]}: {signed(mean)} points, ahead in {wins} of {len(gains)} seeds"
    if len(gains) < 3:
        return text + ": too few seeds for a claim."
    error = statistics.stdev(gains) / len(gains) ** 0.5
    return text + (
        f" (standard error {error:.2f}): "
        + ("more than two standard errors." if abs(mean) > 2 * error else "within noise.")
    )


def finished(done: int, planned: int) -> str:
    """How far a study is."""
    if done == planned:
        return f"All {planned} full-length student runs are finished."
    return (
        f"{done} of {planned} full-length student runs are finished; the command above goes on with the missing ones."
    )


def _shown_in(run: Run) -> str:
    """The CamVid table that a tuning run belongs to. CWD and MGD were tuned with the first table's jobs, for the third."""
    return "competitors" if run["arm"] in ("cwd", "mgd") else str(run["name"].split("-")[1])


def camvid(folder: Path) -> str:
    """The CamVid page."""
    runs = load(folder)
    lines = [
        "# CamVid, 240x180: ACAM-KD against its controls",
        "",
        "<!-- generated by `python -m benchmarks.tables`; a test compares -->",
        "",
        "Command: `python -m benchmarks.camvid --data CAMVID --backbone MOBILENET_V2_BACKBONE.pth`. All runs go through the API.",
        "30 epochs, batch 8, output stride 16, poly decay; teacher DeepLabV3-MobileNetV2 1.0 from ImageNet weights. The learning rate",
        "is chosen once for each student alone, each term's weight on val among three values in half-length runs, for the first student's",
        "logit KD and ACAM-KD, whose best was at an end, among five; val shares its only sequence with train, so arms are judged on test.",
        "The first two tables train under bf16 autocast, the third in fp32. Points of mIoU.",
        "",
    ]
    lines += teacher_lines([run for run in runs if run["stage"] == "teacher"])
    for table, title in (
        ("scratch", "Student: width 0.35 from scratch"),
        ("pretrained", "Student: Mobile DeepLabv3 with a pretrained backbone"),
        ("competitors", "ACAM-KD and its competitors. Student: width 0.35 from scratch"),
    ):
        lines += [f"## {title}", ""]
        final = [run for run in runs if run["stage"] == "final" and run["name"].startswith(f"camvid-{table}-")]
        tuned = [run for run in runs if run["stage"] == "tune" and _shown_in(run) == table]
        if final:
            lines += [*arms_table(final), ""]
            for other in (
                "none",
                "feature_mse_matched",
                "feature_mse",
                "logit",
                "cwd",
                "mgd",
                "pkd",
                "maskd",
                "acam_frozen",
                "acam_shuffled",
            ):
                if sentence := comparison(final, "acam", other):
                    lines.append(f"- {sentence}")
            lines += ["", *READINGS.get(table, []), "Test IoU per class, mean over seeds:", "", *class_table(final), ""]
        else:
            lines += ["No full-length run has finished yet.", ""]
        if tuned:
            lines += ["Tuning:", "", *tuning_table(tuned), ""]
    done = sum(run["stage"] == "final" for run in runs)
    lines += [finished(done, 54), ""]
    return "\n".join(lines)


def demo(folder: Path) -> str:
    """The page of the demo's seeds."""
    runs = [run for run in load(folder) if run["stage"] == "final"]
    teachers = [run for run in load(folder) if run["stage"] == "teacher"]
    lines = [
        "# The demo's jobs, seeds 0 to 4",
        "",
        "<!-- generated by `python -m benchmarks.tables`; a test compares -->",
        "",
        "Command: `python -m benchmarks.demo` against a running platform. The jobs are those of `make demo` (`cli/demo_jobs.py`), with",
        "the plain controls and the student alone at half and at double its learning rate. Each term's weight is the best of three on",
        "val with seed 0. Points of mIoU on the test split.",
        "",
        f"Teacher: {spread([v for run in teachers if (v := score(run)) is not None]) or 'not run yet'}.",
        "",
    ]
    if runs:
        lines += [*arms_table(runs), ""]
        for other in ("none", "logit", "feature_mse"):
            if sentence := comparison(runs, "acam", other):
                lines.append(f"- {sentence}")
        lines.append("")
    if tuned := [run for run in load(folder) if run["stage"] == "tune"]:
        lines += ["Tuning:", "", *tuning_table(tuned), ""]
    finished = len({run["seed"] for run in runs if run["arm"] == "acam"})
    lines += [f"ACAM-KD has run with {finished} of 5 seeds; the command above goes on with what is missing.", ""]
    return "\n".join(lines)


def bccd(folder: Path) -> str:
    """The BCCD page: detection."""
    runs = load(folder)
    lines = [
        "# BCCD, 320x240: ACAM-KD on a detector's pyramid against its controls",
        "",
        "<!-- generated by `python -m benchmarks.tables`; a test compares -->",
        "",
        "Command: `python -m benchmarks.bccd --data BCCD --backbone MOBILENET_V2_BACKBONE.pth`. All runs go through the API. Blood",
        "cells: three classes, 205 training, 87 validation, 72 test images. Teacher RetinaNet-MobileNetV2 1.0 from ImageNet weights,",
        "student RetinaNet-MobileNetV2 0.35 from scratch; 60 and 40 epochs, batch 8, p3 to p7, bf16. The learning rate is chosen once for the",
        "student alone, each term's weight among four values (MGD: five) in half-length runs, both on val; arms are judged on test. Points",
        "of COCO mAP. Some red cells carry no box, and a detector that finds them is punished for it: read the classes apart.",
        "",
    ]
    lines += teacher_lines([run for run in runs if run["stage"] == "teacher"], "mAP")
    final = [run for run in runs if run["name"].startswith("bccd-final-")]
    tuned = [run for run in runs if run["stage"] == "tune"]
    if final:
        lines += [*arms_table(final, metric="mAP"), ""]
        for other in (
            "none",
            "logit",
            "feature_mse_matched",
            "feature_mse",
            "cwd",
            "mgd",
            "pkd",
            "fgd",
        ):
            if sentence := comparison(final, "acam", other):
                lines.append(f"- {sentence}")
        lines += ["", *READINGS.get("bccd", []), "Further means on test:", ""]
        lines += extra_table(final, {"map_50": "AP50", "map_75": "AP75", "map_medium": "medium", "map_large": "large"})
        lines += ["", "Test AP per class, mean over seeds:", "", *class_table(final), ""]
    else:
        lines += ["No full-length run has finished yet.", ""]
    if tuned:
        lines += ["Tuning:", "", *tuning_table(tuned, "mAP"), ""]
    if masks := [run for run in runs if run["name"].startswith("bccd-masks-final-")]:
        lines += [
            "## Is it the masks?",
            "",
            "At the rate and weight chosen above, all arms with the same teacher.",
            "",
        ]
        lines += [*arms_table(masks, "acam", "mAP"), ""]
        lines += [
            f"- {told}" for other in ("acam_frozen", "acam_shuffled") if (told := comparison(masks, "acam", other))
        ]
        lines += ["", *READINGS.get("bccd_masks", [])]
    lines += [finished(len(final) + len(masks), 36), ""]
    return "\n".join(lines)


PAGES = {"camvid": camvid, "demo": demo, "bccd": bccd}


def main() -> None:
    """Writes every page."""
    for name, page in PAGES.items():
        (RESULTS / f"{name}.md").write_text(page(RESULTS / name), encoding="utf-8")


if __name__ == "__main__":
    main()
