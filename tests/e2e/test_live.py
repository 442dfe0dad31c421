"""A run while it runs: submitted with the form, watched without a reload, through the death of the server."""

from __future__ import annotations

import os
import re
from collections.abc import Callable

import pytest
import yaml
from playwright.sync_api import Page, expect

from tests.e2e.conftest import ACAM, World
from tests.e2e.look import Visitor
from tests.e2e.platform import until

pytestmark = pytest.mark.serial
Visit = Callable[..., Visitor]
SECONDS = 1000.0


def iteration(page: Page) -> int:
    """The iteration in the header, 0 before there is one."""
    shown = page.locator(".run-header .inked")
    return int(shown.inner_text().replace(",", "")) if shown.count() else 0


def ink(page: Page, chart: str, color: tuple[int, int, int]) -> int:
    """Pixels of a colour in a chart."""
    count = """([name, rgb]) => {
      const canvas = document.querySelector(`[aria-label="${name}"] canvas`);
      const { data } = canvas.getContext('2d').getImageData(0, 0, canvas.width, canvas.height);
      let found = 0;
      for (let i = 0; i < data.length; i += 4)
        if (data[i + 3] > 200 && rgb.every((value, c) => Math.abs(data[i + c] - value) < 12)) found += 1;
      return found;
    }"""
    return int(page.evaluate(count, [chart, list(color)]))


def test_a_run_from_the_form_goes_live_without_a_reload(visit: Visit, world: World) -> None:
    visitor = visit()
    page = visitor.see("/new", "New run")
    name = f"from-the-form-{os.getpid()}"  # on a kept platform those of earlier calls are still there
    spec = {**ACAM, "name": name, "schedule": {"iterations": 120}, "evaluation": {"every": 40, "panels": 2}}
    text = page.get_by_label("Spec as YAML")
    text.fill(yaml.safe_dump({**spec, "studnet": 1}))
    submit = page.get_by_role("button", name="Submit")
    expect(page.get_by_label("Check", exact=True)).to_contain_text("studnet", timeout=10 * SECONDS)
    expect(submit).to_be_disabled()
    # a browser reports every refusal to the console
    assert all("422" in line for line in visitor.complaints)
    visitor.complaints.clear()
    text.fill(yaml.safe_dump(spec))
    seed = page.locator('[data-path="seed"] input')
    expect(seed).to_have_value("0")
    seed.fill("7")  # the form writes into the text
    until(lambda: yaml.safe_load(text.input_value()) == {**spec, "seed": 7}, 5)
    expect(submit).to_be_enabled(timeout=10 * SECONDS)
    submit.click()
    expect(page).to_have_url(f"{world.address}/runs/{name}")
    page.evaluate("window.sameDocument = true")
    # before the first evaluation: axes, and a word on what is awaited; then points, pictures, masks
    blue = (0x00, 0x72, 0xB2)
    page.locator('[aria-label="mIoU, val"] canvas').wait_for()
    assert ink(page, "mIoU, val", blue) == 0
    expect(page.locator(".run-header .state").first).to_contain_text("running", timeout=60 * SECONDS)
    until(lambda: 0 < iteration(page) < 120, 60)
    mask = page.locator(".viewer .panel", has_text="mean").locator("img")
    expect(mask).to_be_visible(timeout=60 * SECONDS)
    assert mask.evaluate("image => image.naturalWidth") > 0
    until(lambda: ink(page, "mIoU, val", blue) > 20, 30)
    until(lambda: ink(page, "Loss terms, stacked", blue) > 20, 30)
    figures = page.locator(".figures")
    expect(figures).to_contain_text("of 4", timeout=20 * SECONDS)  # effective masks of four
    expect(page.locator(".run-header .state").first).to_contain_text("succeeded", timeout=180 * SECONDS)
    job = world.platform.client.jobs.get(name)
    assert job.info.seed == 7
    expect(figures).to_contain_text(f"{job.results['val/miou']:.1f}")
    expect(figures).to_contain_text(f"to teacher {job.results['teacher/miou']:.1f}")
    assert page.evaluate("window.sameDocument") is True


def test_scrubbing_holds_still_and_counts_what_is_newer(visit: Visit, slow_run: str) -> None:
    page = visit().see(f"/runs/{slow_run}", slow_run)
    scrubber = page.get_by_label("Evaluation", exact=True)
    scrubber.wait_for(timeout=90 * SECONDS)
    until(lambda: int(scrubber.get_attribute("max") or 0) >= 3, 120)
    expect(page.locator(".scrubber .pill").first).to_have_text("live")
    page.keyboard.press("[")
    expect(page).to_have_url(re.compile("[?&]it="))
    held = page.locator(".scrubber .at").inner_text()
    waiting = page.locator(".scrubber .pill", has_text="newer")
    waiting.wait_for(timeout=60 * SECONDS)
    until(lambda: int(waiting.inner_text().split()[0]) >= 2, 60)
    assert page.locator(".scrubber .at").inner_text() == held
    assert f"it {page.url.split('it=')[1].split('&')[0]}" == held
    page.reload()  # the address is the view
    expect(page.locator(".scrubber .at")).to_have_text(held)
    page.get_by_role("button", name="to live").or_(page.get_by_role("button", name="newer")).first.click()
    expect(page.locator(".scrubber .pill").first).to_have_text("live")
    assert "it=" not in page.url


def test_the_page_survives_a_killed_server(visit: Visit, world: World, slow_run: str) -> None:
    visitor = visit()
    page = visitor.see(f"/runs/{slow_run}", slow_run)
    page.evaluate("window.sameDocument = true")
    until(lambda: iteration(page) >= 5, 90)
    world.platform.part("server").kill()
    expect(page.get_by_text("not live, reconnecting")).to_be_visible(timeout=15 * SECONDS)
    before = iteration(page)
    until(world.platform.answers, 60)
    expect(page.get_by_text("not live, reconnecting")).to_be_hidden(timeout=30 * SECONDS)
    until(lambda: iteration(page) > before + 3, 60)
    assert page.evaluate("window.sameDocument") is True
    # nothing that happened meanwhile is missing: the page shows what the server says
    job = world.platform.client.jobs.get(slow_run)
    job.pause()
    expect(page.locator(".run-header .state").first).to_contain_text("paused", timeout=30 * SECONDS)
    evaluations = len([item for item in job.refresh().evaluations if item.role == "student"])
    expect(page.get_by_label("Evaluation", exact=True)).to_have_attribute("max", str(evaluations - 1))
    # a browser reports requests to a server that is away; anything else would be an error of the page
    assert [line for line in visitor.complaints if "ERR_" not in line] == []
    visitor.complaints.clear()
