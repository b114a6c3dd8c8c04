"""One installation for all tests of this folder: started once, removed at the end whatever happened."""

import os
from collections.abc import Generator, Iterator
from pathlib import Path

import pytest
from playwright.sync_api import Browser, Page, sync_playwright

from deployments.demo.installation import USUAL_PORTS
from deployments.demo.repository import ApplicationRepository
from deployments.processes import free_ports
from tests.blocks.fault_proxy import fault_proxy
from tests.browser.prefect_pages import PrefectPages
from tests.conftest import CHROMIUM
from tests.system.claims import NamesTakenError, new_installation
from tests.system.premises import Premises, keep_logs

FAILED = pytest.StashKey[bool]()


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(item: pytest.Item) -> Generator[None, pytest.TestReport, pytest.TestReport]:
    report = yield
    item.stash[FAILED] = item.stash.get(FAILED, False) or report.failed
    return report


@pytest.fixture(scope="package")
def premises(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Premises]:
    folder = tmp_path_factory.mktemp("system") / "installation"
    cache = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "greenroom"
    ports = free_ports(USUAL_PORTS)
    before = request.session.testsfailed
    with fault_proxy(f"127.0.0.1:{ports['registry']}") as proxy:
        try:
            installation = new_installation(folder, cache, proxy, ports)
        except NamesTakenError as taken:
            pytest.skip(str(taken))
        try:
            repository = ApplicationRepository.create(folder / "dealbrain")
            installation.start()
            premises = Premises(installation, repository, proxy)
            premises.journal.migrate()
            try:
                yield premises
            finally:
                premises.close()
        finally:
            if request.session.testsfailed > before or not (folder / "settings.json").exists():
                kept = folder.with_name("logs")
                keep_logs(folder, kept)
                print(f"the installation's logs: {kept}")  # noqa: T201  a person who looks for the reason needs them
            installation.stop(remove=True)


# Not for longer than a module: while it is open, this thread has a running event loop, and `asyncio.run` refuses.
@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=str(CHROMIUM), args=["--no-sandbox", "--disable-dev-shm-usage"])
        yield browser
        browser.close()


@pytest.fixture
def page(browser: Browser, request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Page]:
    """A new page; how it looked is kept in the test's folder when the test fails."""
    page = browser.new_page(viewport={"width": 1400, "height": 1000})
    yield page
    if request.node.stash.get(FAILED, False):
        page.screenshot(path=tmp_path / "failed.png", full_page=True)
        print(f"screenshot: {tmp_path / 'failed.png'}, of {page.url}")  # noqa: T201  pytest shows it with the failure
    page.close()


@pytest.fixture
def pages(page: Page, premises: Premises) -> PrefectPages:
    return PrefectPages(page, premises.installation.prefect.url)
