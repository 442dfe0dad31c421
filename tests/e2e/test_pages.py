"""Every page: its heading, no console error, no violated policy, no sideways scroll on a phone, no serious barrier."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from tests.e2e.look import PHONE, Visitor

pytestmark = pytest.mark.serial
TABS = ("overview", "masks", "predictions", "system", "logs", "spec", "artifacts", "attempts")
PAGES = {
    "/runs": "Runs",
    "/new": "New run",
    "/new?from=distilled": "New run",
    "/datasets": "Datasets",
    "/datasets?name=street": "street",
    "/models": "Models",
    "/workers": "Workers",
    "/catalog": "Catalog",
    "/compare": "Compare",
    "/compare?jobs=alone,distilled": "Compare",
    "/runs/diverged": "diverged",
    **{f"/runs/distilled?tab={tab}": "distilled" for tab in TABS},
}
Visit = Callable[..., Visitor]


@pytest.mark.parametrize("dark", [False, True], ids=["light", "dark"])
def test_every_page_opens_in_both_themes_without_a_barrier(visit: Visit, axe: str, dark: bool) -> None:
    visitor = visit(dark=dark)
    found: dict[str, str] = {}  # one page for each barrier is enough to find it
    wide: dict[str, int] = {}
    for path, heading in PAGES.items():
        page = visitor.see(path, heading)
        scheme = page.evaluate("document.documentElement.dataset.mantineColorScheme")
        assert scheme == ("dark" if dark else "light")
        overflow = "[...document.querySelectorAll('.scroll')].map((e) => e.scrollWidth - e.clientWidth)"
        if any(beyond > 1 for beyond in page.evaluate(overflow)):
            wide[path] = max(page.evaluate(overflow))
        # by the debugger, because the page's own policy allows no foreign script
        page.evaluate(axe)
        violations = page.evaluate("axe.run(document, {resultTypes: ['violations']}).then((all) => all.violations)")
        for item in violations:
            if item["impact"] in ("serious", "critical"):
                for node in item["nodes"]:
                    found.setdefault(f"{item['id']} at {node['target'][0]}", f"{path}: {node['failureSummary']}")
    assert found == {}
    assert wide == {}, "a table that has to be scrolled sideways at 1440 pixels"


def test_no_page_scrolls_sideways_on_a_phone(visit: Visit) -> None:
    visitor = visit(size=PHONE)
    wide = {}
    for path, heading in PAGES.items():
        page = visitor.see(path, heading)
        width = page.evaluate("document.documentElement.scrollWidth")
        if width > PHONE[0]:
            wide[path] = width
    assert wide == {}


def test_the_policy_forbids_what_it_should(visit: Visit) -> None:
    # the check above would find nothing if there were no policy: here is one violation that must be noticed
    visitor = visit()
    page = visitor.see("/runs", "Runs")
    with page.expect_console_message(lambda message: message.type == "error"):
        page.evaluate(
            "() => { const s = document.createElement('script'); s.textContent = 'window.hit = 1';"
            " document.head.append(s); }"
        )
    assert page.evaluate("window.hit") is None
    assert len(visitor.complaints) == 1
    assert "Content Security Policy" in visitor.complaints.pop()
