"""The files in which most is wrong, over all findings: where to begin with mending."""

from __future__ import annotations

from collections import Counter, defaultdict

from acamkd_core.spec.inspection import Finding, WorstFile

SHOWN = 20
BACKGROUND = frozenset({"dataset.no_boxes", "dataset.missing_label_file"})  # such files are usually meant so


def worst_files(findings: list[Finding]) -> list[WorstFile]:
    """The worst files, those with errors first.

    Args:
        findings: with all their files, each as often as it has the mistake.
    """
    errors: Counter[str] = Counter()
    warnings: Counter[str] = Counter()
    codes: dict[str, set[str]] = defaultdict(set)
    for one in findings:
        if one.code in BACKGROUND:
            continue
        (errors if one.severity == "error" else warnings).update(one.files)
        for file in one.files:
            codes[file].add(one.code)
    worst = sorted(codes, key=lambda file: (-errors[file], -warnings[file], file))[:SHOWN]
    return [
        WorstFile(file=file, errors=errors[file], warnings=warnings[file], codes=sorted(codes[file])) for file in worst
    ]
