"""The dashboard names a task's metric in one file; it must be the metric of the spec."""

from __future__ import annotations

import re
from pathlib import Path

from acamkd_core.spec.tasks import TASKS

METRICS = Path(__file__).resolve().parents[2] / "frontend" / "src" / "lib" / "metric.ts"
ENTRY = re.compile(r"(\w+): \{ key: '(\w+)', label: '([^']+)', perClass: '(\w+)' \}")


def test_the_dashboard_judges_every_task_by_its_own_metric() -> None:
    known = {found[0]: found[1:] for found in ENTRY.findall(METRICS.read_text(encoding="utf-8"))}
    assert known == {task.name: (task.metric, task.label, task.class_label) for task in TASKS.values()}
