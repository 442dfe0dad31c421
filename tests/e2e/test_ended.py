"""Runs that have ended: logs, files, a failure with its way out, comparison, keys, addresses."""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from pathlib import Path

import pytest
from playwright.sync_api import expect

from tests.e2e.conftest import World
from tests.e2e.look import Visitor

pytestmark = pytest.mark.serial
Visit = Callable[..., Visitor]


def test_the_log_is_the_jobs_log(visit: Visit, world: World) -> None:
    page = visit().see("/runs/distilled", "distilled")
    page.keyboard.press("l")
    lines = [line["text"] for line in world.platform.client.jobs.get("distilled").logs()]
    assert lines
    log = page.get_by_role("log")
    for line in (lines[0], lines[-1]):
        expect(log).to_contain_text(line)
    expect(page.get_by_text(f"{len(lines)} lines")).to_be_visible()
    page.get_by_label("Find in the log").fill("no line says this")
    expect(page.get_by_text("0 lines", exact=True)).to_be_visible()


def test_a_downloaded_file_has_the_digest_that_the_page_shows(visit: Visit, tmp_path: Path) -> None:
    page = visit().see("/runs/distilled?tab=artifacts", "distilled")
    row = page.get_by_role("row").filter(has_text="model.onnx")
    expect(row).to_contain_text("verified")
    with page.expect_download() as download:
        row.get_by_role("link").click()
    file = tmp_path / "model.onnx"
    download.value.save_as(file)
    assert hashlib.sha256(file.read_bytes()).hexdigest() == row.locator("td[title]").last.get_attribute("title")


def test_a_failure_says_why_with_the_value_and_offers_the_repair(visit: Visit, world: World) -> None:
    page = visit().see("/runs/diverged", "diverged")
    expect(page.locator(".run-header")).to_contain_text("non-finite loss")
    alert = page.get_by_role("alert")
    expect(alert).to_contain_text("optimizer.lr: 1000000000")
    expect(page.locator(".log.short")).not_to_be_empty()
    page.get_by_role("button", name="retry with lr 5e+08 and gradients clipped at 1").click()
    expect(page.locator("h1")).not_to_have_text("diverged")
    retried = world.platform.client.jobs.get(page.locator("h1").inner_text())
    resolved = retried.spec().spec
    assert (resolved["optimizer"]["lr"], resolved["train"]["grad_clip"]) == (5e8, 1.0)
    retried.cancel()


def test_two_runs_side_by_side_from_the_keyboard(visit: Visit, world: World) -> None:
    page = visit().see("/runs?q=state:succeeded", "Runs")
    rows = page.locator("tbody tr")
    names = rows.locator("b").all_inner_texts()
    page.keyboard.press("j")
    page.keyboard.press("j")
    expect(rows.nth(1)).to_have_class("pick at")
    page.keyboard.press("k")
    page.keyboard.press("x")
    page.keyboard.press("j")
    page.keyboard.press("x")
    expect(page.get_by_role("button", name="Compare 2")).to_be_visible()
    page.reload()
    expect(page.locator("tr[aria-selected=true]")).to_have_count(2)
    page.keyboard.press("c")
    expect(page.get_by_role("heading", level=1)).to_have_text("Compare")
    expect(page.locator(".chip").first).to_contain_text(names[0])
    expect(page.locator(".chip").first).to_contain_text("baseline")
    page.goto("/compare?jobs=alone,distilled")
    expect(page.get_by_role("status").filter(has_text="Not comparable because")).to_contain_text(
        "distilled has another training budget"
    )
    distilled, alone = (world.platform.client.jobs.get(name).results for name in ("distilled", "alone"))
    row = page.get_by_role("row").filter(has=page.get_by_role("cell", name="distilled", exact=True))
    expect(row).to_contain_text(f"{distilled['test/miou']:.1f}")
    difference = round(distilled["test/miou"] - alone["test/miou"], 1)
    expect(row).to_contain_text(f"{'−' if difference < 0 else '+'}{abs(difference):.1f}")
    expect(page.get_by_role("row", name="distill.0.method none acam")).to_be_visible()


def test_help_palette_filter_and_the_address_of_a_view(visit: Visit) -> None:
    page = visit().see("/runs", "Runs")
    page.keyboard.press("?")
    expect(page.get_by_role("dialog", name="Keyboard")).to_be_visible()
    page.keyboard.press("Escape")
    expect(page.get_by_role("dialog")).to_have_count(0)
    page.keyboard.press("/")
    page.keyboard.type("state:failed")
    expect(page.get_by_role("link", name="diverged", exact=True)).to_be_visible()
    expect(page.locator("tbody tr").filter(has_not_text="failed")).to_have_count(0)
    page.keyboard.press("Escape")
    page.keyboard.press("Control+k")
    page.get_by_placeholder("Go to a page or a run").fill("distilled")
    expect(page.locator("[data-selected]")).to_contain_text("distilled")
    page.keyboard.press("Enter")
    expect(page.get_by_role("heading", level=1)).to_have_text("distilled")
    expect(page.locator(".scrubber .at")).to_have_text("it 12")
    page.keyboard.press("[")
    expect(page.locator(".scrubber .at")).to_have_text("it 9")
    page.get_by_role("tab", name="Masks").click()
    page.keyboard.press("y")
    expect(page.get_by_text("Address of this view copied")).to_be_visible()
    copied = page.evaluate("navigator.clipboard.readText()")
    assert copied == page.url
    assert copied.endswith("tab=masks&it=9") or copied.endswith("it=9&tab=masks")
    page.goto("/runs")
    page.goto(copied)
    expect(page.get_by_role("tab", name="Masks")).to_have_attribute("aria-selected", "true")
    expect(page.locator(".scrubber .at")).to_have_text("it 9")
