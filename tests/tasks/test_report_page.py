import re
from collections.abc import Iterator
from dataclasses import replace
from datetime import timedelta
from html.parser import HTMLParser
from pathlib import Path

import pytest
from playwright.sync_api import Browser, Page, sync_playwright

from delivery.journal import Ending, Promoted
from tasks.charts import charts
from tasks.report import rollout_markdown, timeline
from tasks.report_page import _renderer, keep_page, rollout_page
from tasks.report_release import overlap
from tests.conftest import CHROMIUM
from tests.samples import a_release
from tests.tasks.test_rollout import GREEN, World

NASTY = (
    '<script>document.title="owned"</script> ![x](http://127.0.0.1:9/p.png) [y](javascript:alert(1)) | ** ` <img src=x onerror=alert(1)>'
)


@pytest.fixture
def world(tmp_path: Path) -> World:
    return World(tmp_path)


def page_of(world: World) -> str:
    rollout = world.rollouts[-1]
    return rollout_page(world.store.entries(rollout), world.store.rollout(rollout))


class Read(HTMLParser):
    """Every tag of the body with its attributes, and the text between them."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.tags: list[tuple[str, dict[str, str | None]]] = []
        self.words = ""
        self.feed(text.partition("<body>")[2])

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, dict(attrs)))

    def handle_data(self, data: str) -> None:
        self.words += data

    def named(self, tag: str) -> list[dict[str, str | None]]:
        return [attributes for name, attributes in self.tags if name == tag]


def test_the_page_holds_every_chart_of_the_report_and_asks_for_nothing_else(world: World) -> None:
    world.roll_out()
    read = Read(page_of(world))
    entries = world.store.entries(world.rollouts[-1])
    assert [image["alt"] for image in read.named("img")] == [chart.title for chart in charts(entries)]
    assert all((image["src"] or "").startswith("data:image/svg+xml;base64,") for image in read.named("img"))
    assert not [tag for tag, attributes in read.tags if tag in ("script", "link", "iframe") or "href" in attributes]
    assert "default-src 'none'" in page_of(world).partition("<body>")[0]


def test_the_page_says_what_the_markdown_says(world: World) -> None:
    world.roll_out()
    rollout = world.rollouts[-1]
    entries = world.store.entries(rollout)
    markdown, words = rollout_markdown(entries, world.store.rollout(rollout)), Read(page_of(world)).words
    said = re.sub(r"!\[[^\]]*\]\([^)]*\)|[*`#]|^- |---", "", markdown, flags=re.MULTILINE).replace("|", " ")
    assert words.split() == said.split()
    assert all(moment.what in words for moment in timeline(entries))


def test_raw_html_in_the_report_stays_text() -> None:
    assert "<b>" not in _renderer().render("<b>bold</b>\n\n<b>\nblock")


def test_the_title_is_the_verdict(world: World) -> None:
    world.roll_out()
    assert "<title>production-1: Production runs v1.2.0.</title>" in page_of(world)


def test_foreign_text_stays_text(world: World) -> None:
    world.roll_out(world.plan(a_release("1.2.0", author=NASTY, evidence={"lint": NASTY})))
    read = Read(page_of(world))
    assert read.words.count("<script>document.title") == 2
    assert not [tag for tag, attributes in read.tags if tag == "script" or any(name.startswith("on") for name in attributes)]
    assert not read.named("a")
    assert all((image["src"] or "").startswith("data:") for image in read.named("img"))


def test_the_release_its_proofs_and_the_journals_last_entry_are_told(world: World) -> None:
    world.roll_out(world.plan(a_release("1.2.0", evidence={"lint": "ruff found nothing"})))
    last = world.store.entries(world.rollouts[-1])[-1]
    words = Read(page_of(world)).words
    for told in (
        str(GREEN.sha),
        "ruff found nothing",
        "greenroom evidence v1.2.0",
        str(GREEN.images["api"]),
        f"has {last.sequence} entries",
        last.hash[:16],
    ):
        assert told in words


def test_two_versions_at_once_cost_what_the_journals_times_say(world: World) -> None:
    """Launched at once, promoted after two watches of 120 s and one of 60 s; an API with two replicas and a worker, warm for 15 min."""
    world.roll_out()
    entries = world.store.entries(world.rollouts[-1])
    promoted = next(index for index, entry in enumerate(entries) if isinstance(entry.event, Promoted))
    slowly_drained = [*entries[: promoted + 1], *(replace(entry, at=entry.at + timedelta(hours=1)) for entry in entries[promoted + 1 :])]
    assert overlap(slowly_drained) == (
        "3 replicas of v1.2.0 were up beside v1.1.0 for 5 min: 15 replica-minutes."
        " 3 replicas of v1.1.0 stay warm for 15 min after that: 45 replica-minutes."
    )


def test_a_release_that_came_back_cost_until_it_was_removed_and_nothing_stays_warm(world: World) -> None:
    world.traffic.error_share[GREEN.id] = 0.5
    world.roll_out()
    told = overlap(world.store.entries(world.rollouts[-1]))
    assert told
    assert told.startswith("3 replicas of v1.2.0 were up beside v1.1.0 for ")
    assert "warm" not in told


def test_the_first_release_has_no_overlap(tmp_path: Path) -> None:
    world = World(tmp_path, blue=None)
    world.roll_out()
    assert overlap(world.store.entries(world.rollouts[-1])) is None


def test_it_is_kept_under_its_name_and_replaced_whole(world: World, tmp_path: Path) -> None:
    world.roll_out()
    rollout = world.rollouts[-1]
    for _ in range(2):
        file = keep_page(tmp_path / "kept", world.store.entries(rollout), world.store.rollout(rollout))
    assert file.read_text() == page_of(world)  # its logs lie elsewhere, and no link leads nowhere
    assert [file.name for file in (tmp_path / "kept").iterdir()] == ["report.html"]


def test_the_page_links_the_logs_that_lie_beside_it(world: World) -> None:
    world.traffic.error_share[GREEN.id] = 0.5
    world.roll_out()
    rollout = world.rollouts[-1]
    page = keep_page(world.folder / rollout, world.store.entries(rollout), world.store.rollout(rollout))
    links = [str(link["href"]) for link in Read(page.read_text()).named("a") if "://" not in str(link["href"])]
    assert links == ["migrate.log", f"{GREEN.id}-api-1.log", f"{world.blue.id}-api-1.log" if world.blue else ""]
    assert all((page.parent / link).is_file() for link in links)


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=str(CHROMIUM), args=["--no-sandbox", "--disable-dev-shm-usage"])
        yield browser
        browser.close()


@pytest.fixture
def opened(browser: Browser) -> Iterator[tuple[Page, list[str]]]:
    """A page, and the addresses that it asked for."""
    page, asked = browser.new_page(viewport={"width": 1200, "height": 900}), []
    page.on("request", lambda request: asked.append(request.url))
    yield page, asked
    page.close()


@pytest.mark.browser
def test_a_browser_draws_both_versions_and_loads_nothing_else(world: World, tmp_path: Path, opened: tuple[Page, list[str]]) -> None:
    page, asked = opened
    world.traffic.error_share[GREEN.id] = 0.5
    world.roll_out(world.plan(a_release("1.2.0", author=NASTY)))
    rollout = world.rollouts[-1]
    record = world.store.rollout(rollout)
    page.goto(keep_page(tmp_path / rollout, world.store.entries(rollout), record).as_uri())
    assert record.ending is Ending.ROLLED_BACK
    assert page.title() == f"{rollout}: {record.message}"
    assert page.locator("h1").inner_text() == record.message
    sizes = page.locator("img").evaluate_all("images => images.map(image => [image.alt, image.naturalWidth])")
    assert [(alt, width) for alt, width in sizes if alt in ("errors", "p95", "v1.2.0")] == [("errors", 640), ("p95", 640), ("v1.2.0", 640)]
    assert not [address for address in asked if not address.startswith(("file:", "data:"))]
    assert page.evaluate("document.documentElement.scrollWidth <= window.innerWidth")


@pytest.mark.browser
def test_a_narrow_screen_scrolls_tables_and_not_the_page(world: World, tmp_path: Path, opened: tuple[Page, list[str]]) -> None:
    page, _ = opened
    page.set_viewport_size({"width": 390, "height": 800})
    world.roll_out()
    rollout = world.rollouts[-1]
    page.goto(keep_page(tmp_path / rollout, world.store.entries(rollout), world.store.rollout(rollout)).as_uri())
    assert page.evaluate("document.documentElement.scrollWidth <= window.innerWidth")
