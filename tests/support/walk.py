"""A visitor with a browser: what a page must be for everybody who opens it."""

import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Literal

from playwright.sync_api import Browser, Page

IMAGES = Path(__file__).parents[2] / "docs/images"
SCREENSHOTS = bool(os.environ.get("TRACKDESK_TEST_SCREENSHOTS"))
"""Set, the walk writes the pictures of docs/guides/dead-letters.md again (`make screenshots`)."""
MOST_SHOWN = 560
"""Of a page, so much is in its picture: enough to know it by."""
WIDE, PHONE = (1280, 800), (390, 844)

LACKS = """() => {
  const lacks = [];
  const say = (what, element) => lacks.push(what + ": " + element.outerHTML.slice(0, 120));
  const root = document.documentElement;
  if (root.scrollWidth > innerWidth) lacks.push("the page scrolls sideways: " + root.scrollWidth);
  if (!root.lang || !document.title) lacks.push("no language or no title");
  if (document.querySelectorAll("h1").length !== 1) lacks.push("not one h1");
  for (const field of document.querySelectorAll("input:not([type=hidden]), select, textarea"))
    if (!field.labels.length) say("no label", field);
  for (const table of document.querySelectorAll("table"))
    if (!table.caption && !table.getAttribute("aria-label")) say("no caption", table);
  for (const image of document.querySelectorAll("img")) if (!image.hasAttribute("alt")) say("no alt", image);
  for (const drawing of document.querySelectorAll("svg"))
    if (!drawing.getAttribute("aria-label")) say("no name", drawing);
  for (const link of document.querySelectorAll("a, button")) if (!link.textContent.trim()) say("no words", link);

  const parse = (colour) => { const n = colour.match(/[\\d.]+/g).map(Number); return n.length < 4 ? [...n, 1] : n; };
  const shine = (colour) => {
    const [r, g, b] = colour.map((n) => n / 255).map((n) => n <= 0.04045 ? n / 12.92 : ((n + 0.055) / 1.055) ** 2.4);
    return 0.2126 * r + 0.7152 * g + 0.0722 * b;
  };
  const ground = (element) => {
    for (let one = element; one; one = one.parentElement) {
      const colour = parse(getComputedStyle(one).backgroundColor);
      if (colour[3] > 0.99) return colour;
    }
    return [255, 255, 255, 1];
  };
  const texts = document.createTreeWalker(document.body, NodeFilter.SHOW_TEXT);
  while (texts.nextNode()) {
    const element = texts.currentNode.parentElement;
    if (!texts.currentNode.data.trim() || !element.checkVisibility({ visibilityProperty: true })) continue;
    if (element.tagName === "NOSCRIPT" || element.tagName === "OPTION") continue;
    const [light, dark] = [shine(parse(getComputedStyle(element).color)), shine(ground(element))].sort((a, b) => b - a);
    const ratio = (light + 0.05) / (dark + 0.05);
    if (ratio < 4.5) say("contrast " + ratio.toFixed(2), element);
  }
  return lacks;
}"""


class Visitor:
    """Opens pages, and fails on any that is not fit for everybody."""

    def __init__(self, page: Page, origin: str, javascript: bool) -> None:
        self.page = page
        self.javascript = javascript
        self._origin = origin
        self.complaints: list[str] = []
        page.on("console", lambda message: self._complain(message.type, message.text))
        page.on("pageerror", lambda error: self.complaints.append(str(error)))

    def _complain(self, kind: str, text: str) -> None:
        if kind in ("error", "warning"):
            self.complaints.append(text)  # a breach of the content policy, for one

    def open(self, path: str) -> None:
        """Go to a path."""
        self.page.goto(self._origin + path)
        self.check()

    def click(self, role: Literal["link", "button"], name: str, *, first: bool = False, within: str = "body") -> None:
        """Click what has a name, and look at the page it leads to."""
        found = self.page.locator(within).get_by_role(role, name=name, exact=True)
        (found.first if first else found).click()
        self.page.wait_for_load_state()
        self.check()

    def fill(self, label: str, text: str, *, within: str = "body") -> None:
        """Fill a field by its label."""
        self.page.locator(within).get_by_label(label).fill(text)

    def check(self) -> None:
        """Fail if the page is not fit: without labels, too pale, too wide, or its script breaks the policy."""
        if self.javascript:  # without it, the browser runs none of ours either
            lacks: list[str] = self.page.evaluate(LACKS)
            assert not lacks, f"{self.page.url}: {lacks}"
        assert not self.complaints, (self.complaints, self.page.locator("main").inner_text())

    def wait_for(self, text: str, *, within: str = "main", within_ms: int = 30_000) -> None:
        """Wait until the page says something; without a script, by loading it again."""
        there = self.page.locator(within).get_by_text(text).first
        if self.javascript:
            there.wait_for(timeout=within_ms)
            return
        for _ in range(within_ms // 250):
            if there.count():
                return
            self.page.wait_for_timeout(250)
            self.page.reload()
        raise AssertionError(f"{self.page.url} never said {text!r}")

    def picture(self, name: str) -> None:
        """Write a picture of the page for the documentation, if pictures are wanted."""
        if SCREENSHOTS:
            IMAGES.mkdir(exist_ok=True)
            size = self.page.viewport_size or {"width": WIDE[0], "height": WIDE[1]}
            height = min(self.page.evaluate("document.documentElement.scrollHeight"), MOST_SHOWN)
            clip: Any = {"x": 0, "y": 0, "width": size["width"], "height": height}
            self.page.screenshot(path=IMAGES / f"{name}.png", full_page=True, clip=clip)


@contextmanager
def visitor(
    browser: Browser,
    origin: str,
    *,
    javascript: bool = True,
    size: tuple[int, int] = WIDE,
    theme: Literal["light", "dark"] = "light",
) -> Iterator[Visitor]:
    """A visitor with a window of their own."""
    viewport: Any = {"width": size[0], "height": size[1]}
    context = browser.new_context(viewport=viewport, color_scheme=theme, java_script_enabled=javascript, locale="en-GB")
    context.set_default_timeout(15_000)
    try:
        yield Visitor(context.new_page(), origin, javascript)
    finally:
        context.close()
