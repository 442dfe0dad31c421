"""What an inspection found, on the terminal."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from cli.output import table

if TYPE_CHECKING:
    from acamkd_core.spec.inspection import ClassSummary, Finding, InspectionReport, SplitSummary

MOST = 40  # rows of a table; `-o json` has all


def print_report(report: InspectionReport) -> None:
    """The dataset in numbers, then the findings."""
    ignored = "" if report.ignore_id is None else f"  ignore {report.ignore_id}"
    print(f"{report.name}@{report.digest}  {report.task}{ignored}")
    print_details(report)


def print_details(report: InspectionReport) -> None:
    """Splits, classes and sizes, then the findings and the worst files."""
    extra = {"semantic_segmentation": [">ignored pixels"], "detection": [">boxes"]}.get(report.task, [])
    table(
        ["split", ">images", ">labelled", *extra],
        ([one.role, one.images, one.labelled, *(_counted(name, one) for name in extra)] for one in report.splits),
    )
    _print_classes(report)
    _limited(["image size", ">images"], [[f"{one.width} x {one.height}", one.count] for one in report.sizes])
    if report.object_sizes:
        roles = list(report.object_sizes[0].boxes)
        rows = [
            [
                f"{one.side} to {one.below}" if one.below else f"{one.side} and more",
                *(one.boxes[role] for role in roles),
            ]
            for one in report.object_sizes
        ]
        table(["object side in pixels", *(f">{role} boxes" for role in roles)], rows)
    _print_findings(report.findings)
    if report.worst_files:
        rows = [[one.file, one.errors, one.warnings, ", ".join(one.codes)] for one in report.worst_files[:10]]
        table(["worst files", ">errors", ">warnings", "findings"], rows)


def _print_classes(report: InspectionReport) -> None:
    roles = [one.role for one in report.splits if one.role != "unlabelled"]
    unit = {"semantic_segmentation": "pixels", "detection": "boxes"}.get(report.task)
    columns = [f">{role} {counted}" for role in roles for counted in (unit, "images") if counted]

    def row(one: ClassSummary) -> list[Any]:
        counts = {"pixels": one.pixels, "boxes": one.boxes, "images": one.images}
        return [counts[counted].get(role, 0) for role in roles for counted in (unit, "images") if counted]

    _limited([">id", "class", *columns], [[one.id, one.name, *row(one)] for one in report.classes])


def _limited(columns: list[str], rows: list[list[Any]]) -> None:
    table(columns, rows[:MOST])
    if len(rows) > MOST:
        print(f"and {len(rows) - MOST} more: -o json")


def _counted(column: str, split: SplitSummary) -> Any:
    if column == ">boxes":
        return split.boxes
    return f"{100 * split.ignored / split.pixels:.1f} %" if split.pixels else None


def _print_findings(findings: list[Finding]) -> None:
    """A line a finding, what to do about it, and the first of its files."""
    for one in findings:
        print(f"{one.severity}: {one.message}")
        if one.hint:
            print(f"  {one.hint}")
        if one.files:
            print(f"  {', '.join(one.files[:5])}")
    if not findings:
        print("no findings")
