"""A rollout's report in a browser that nobody watches: what a person who opens the file would see."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from delivery.errors import DeliveryError
from deployments.machine import chromium

_WIDTH, _HEIGHT = 1000, 1560  # pixels: as far as the plots
_DRAWN = "images => images.filter(image => image.complete && image.naturalWidth && image.offsetHeight).map(image => image.alt)"


@dataclass(frozen=True)
class Seen:
    """`drawn` are the titles of the plots that have a size on the page, in its order; `foreign` the addresses that it asked for."""

    headline: str
    drawn: tuple[str, ...]
    foreign: tuple[str, ...]

    def lacks(self, *, headline: str, plots: Sequence[str]) -> tuple[str, ...]:
        """A sentence for everything that is not as it should be: the page of another rollout, a plot that is not there, a page that asks
        for something else.
        """
        found = [] if self.headline == headline else [f"the report begins with {self.headline!r}, expected {headline!r}"]
        found += [f"the report shows no plot {plot!r} in a browser" for plot in plots if plot not in self.drawn]
        return (*found, *(f"the report asks for {address}" for address in self.foreign))


def look_at(page: Path, *, picture: Path | None = None) -> Seen:
    """Opens the file in Chromium and keeps a picture of its first 1,560 rows; raises `DeliveryError` when there is no page or browser."""
    try:
        # A tool of the tests: `make demo` has it, an installation that only runs flows does not.
        from playwright.sync_api import Error, sync_playwright  # noqa: PLC0415
    except ImportError as missing:
        raise DeliveryError("Playwright is not installed, so nobody can look at the report.", next="run `make setup`.") from missing
    if not page.is_file():
        raise DeliveryError(f"There is no report at {page}.", next="look into the run's log for what kept it from being written.")
    asked: list[str] = []
    try:
        with sync_playwright() as playwright:
            browser = playwright.chromium.launch(executable_path=str(chromium()), args=["--no-sandbox", "--disable-dev-shm-usage"])
            tab = browser.new_page(viewport={"width": _WIDTH, "height": _HEIGHT})
            tab.on("request", lambda request: asked.append(request.url))
            tab.goto(page.as_uri())
            seen = Seen(
                headline=tab.locator("h1").first.inner_text(),
                drawn=tuple(tab.locator("img").evaluate_all(_DRAWN)),
                foreign=tuple(address for address in asked if not address.startswith(("file:", "data:"))),
            )
            if picture is not None:
                tab.screenshot(path=picture)
            browser.close()
    except Error as broken:
        raise DeliveryError(f"Chromium did not show {page}: {broken.message.splitlines()[0]}", next="run `make setup`.") from broken
    return seen
