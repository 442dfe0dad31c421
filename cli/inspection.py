"""What an inspection found, on the terminal."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from cli.output import table

if TYPE_CHECKING:
    from acamkd_core.spec.inspection import InspectionReport, SplitSummary


def print_report(report: InspectionReport) -> None:
    """The dataset in numbers, then the findings."""
    ignored = "" if report.ignore_id is None else f"  ignore {report.ignore_id}"
    print(f"{report.name}@{report.digest}  {report.task}{ignored}")
    extra = {"semantic_segmentation": [">ignored pixels"], "detection": [">boxes"]}.get(report.task, [])
    table(
        ["split", ">images", ">labelled", *extra],
        ([one.role, one.images, one.labelled, *(_counted(name, one) for name in extra)] for one in report.splits),
    )
    print_findings([finding.model_dump() for finding in report.findings])


def _counted(column: str, split: SplitSummary) -> Any:
    if column == ">boxes":
        return split.boxes
    return f"{100 * split.ignored / split.pixels:.1f} %" if split.pixels else None


def print_findings(findings: list[dict[str, Any]]) -> None:
    """One line a finding, and the first of its files."""
    for one in findings:
        print(f"{one.get('severity')}: {one.get('message')}")
        if one.get("files"):
            print(f"  {', '.join(one['files'][:5])}")
    if not findings:
        print("no findings")
