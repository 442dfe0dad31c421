"""What an inspection found, on the terminal."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from cli.output import table

if TYPE_CHECKING:
    from acamkd_core.spec.inspection import InspectionReport


def print_report(report: InspectionReport) -> None:
    """The dataset in numbers, then the findings."""
    ignored = "" if report.ignore_id is None else f"  ignore {report.ignore_id}"
    print(f"{report.name}@{report.digest}  {report.task}{ignored}")
    boxes = report.task == "detection"
    table(
        ["split", ">images", ">labelled", ">boxes" if boxes else ">ignored pixels"],
        (
            [
                one.role, one.images, one.labelled,
                one.boxes if boxes else f"{100 * one.ignored / one.pixels:.1f} %" if one.pixels else None,
            ]
            for one in report.splits
        ),
    )  # fmt: skip
    print_findings([finding.model_dump() for finding in report.findings])


def print_findings(findings: list[dict[str, Any]]) -> None:
    """One line a finding, and the first of its files."""
    for one in findings:
        print(f"{one.get('severity')}: {one.get('message')}")
        if one.get("files"):
            print(f"  {', '.join(one['files'][:5])}")
    if not findings:
        print("no findings")
