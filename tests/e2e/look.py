"""Chromium under Playwright, as every browser test and every picture uses it."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from playwright.sync_api import Browser, Page, sync_playwright

from scripts import browser

FLAGS = [
    *("--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run", "--disable-background-networking"),
    *("--disable-component-update", "--disable-sync"),
]
WIDE, PHONE = (1440, 900), (390, 844)


@contextmanager
def chromium() -> Iterator[Browser]:
    """A browser process. Raises FileNotFoundError when this machine has none."""
    program = browser.find()
    if program is None or not program.exists():
        raise FileNotFoundError(f"no Chromium ({program or 'python scripts/browser.py install'})")
    with sync_playwright() as playwright:
        running = playwright.chromium.launch(executable_path=str(program), args=FLAGS)
        yield running
        running.close()


class Visitor:
    """One page in a context of its own, which remembers what the console complained about."""

    def __init__(self, running: Browser, address: str, *, dark: bool = False, size: tuple[int, int] = WIDE) -> None:
        self.context = running.new_context(
            base_url=address,
            locale="en-US",
            color_scheme="dark" if dark else "light",
            viewport={"width": size[0], "height": size[1]},
            permissions=["clipboard-read", "clipboard-write"],
            reduced_motion="reduce",
        )
        self.page: Page = self.context.new_page()
        self.complaints: list[str] = []
        self.page.on(
            "console", lambda message: self._note(message.type, f"{message.text} {message.location.get('url')}")
        )
        self.page.on("pageerror", lambda error: self.complaints.append(f"uncaught: {error}"))

    def _note(self, kind: str, text: str) -> None:
        # Chromium reports a violated Content-Security-Policy as a console error too.
        if kind == "error":
            self.complaints.append(text)

    def see(self, path: str, heading: str | None = None) -> Page:
        """Opens a page and waits until its main heading stands and nothing is loading any more."""
        self.page.goto(path)
        main = self.page.get_by_role("heading", level=1)
        (main.filter(has_text=heading) if heading else main).first.wait_for()
        self.page.wait_for_function("() => !document.querySelector('.skeleton')")
        return self.page

    def shot(self, path: Path, *, full: bool = False) -> None:
        """A picture of what stands on the page once charts are drawn and images decoded."""
        # a page holds its event stream open, so there is no idle network to wait for
        self.page.wait_for_timeout(1500)
        self.page.screenshot(path=path, full_page=full)

    def close(self) -> None:
        self.context.close()
