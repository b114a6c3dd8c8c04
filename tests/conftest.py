"""What a machine cannot run is left out by name; GREENROOM_TEST_ALL=1 makes leaving anything out a failure."""

import os
import shutil
from collections.abc import Callable, Iterator
from functools import cache

import pytest
from hypothesis import settings

from delivery import redaction
from delivery.errors import DeliveryError
from deployments.machine import chromium, engine_client
from tests.postgresql import empty_postgresql, postgresql_programs

# How many examples a property is tried on: `--hypothesis-profile=quick` is for the fast suite.
settings.register_profile("quick", max_examples=20, deadline=None)
settings.register_profile("thorough", max_examples=200, deadline=None)
settings.load_profile("thorough")

CHROMIUM = chromium()


@cache
def _why_no_docker() -> str | None:
    """None when an engine answers. Asked once, and only when a test wants one."""
    try:
        engine_client(timeout_seconds=10).close()
    except DeliveryError as error:
        return str(error)
    return None


@cache
def _why_no_browser() -> str | None:
    return None if CHROMIUM.exists() else f"There is no browser at {CHROMIUM}. Next: run `make setup`, or set CHROMIUM_PATH."


def _why_no_postgresql() -> str | None:
    """The machine's own programs, or a container of them."""
    return None if postgresql_programs() else _why_no_docker()


def _why_no_prometheus() -> str | None:
    return None if shutil.which("prometheus") else "There is no Prometheus here. Next: apt-get install prometheus."


WHY_NOT: dict[str, Callable[[], str | None]] = {
    "docker": _why_no_docker,
    "browser": _why_no_browser,
    "postgresql": _why_no_postgresql,
    "prometheus": _why_no_prometheus,
}


@pytest.fixture(autouse=True)
def no_secret_is_known_from_another_test(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(redaction, "_known", redaction._Known())


@pytest.fixture(scope="session")
def postgresql() -> Iterator[str]:
    """The URL of an empty database, as a superuser, on a server that this session has for itself."""
    with empty_postgresql() as url:
        yield url


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    deselected = config.getoption("markexpr")
    for marker, why_not in WHY_NOT.items():
        wanting = [item for item in items if item.get_closest_marker(marker)]
        # `-m "not docker"` is a choice, not something that this machine lacks.
        if wanting and f"not {marker}" not in deselected and (reason := why_not()):
            for item in wanting:
                item.add_marker(pytest.mark.skip(reason=reason))


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    skipped = terminalreporter.stats.get("skipped", [])
    if not skipped:
        return
    terminalreporter.section("left out")
    by_reason: dict[str, list[str]] = {}
    for report in skipped:
        reason = report.longrepr[2] if isinstance(report.longrepr, tuple) else str(report.longrepr)
        by_reason.setdefault(reason.removeprefix("Skipped: "), []).append(report.nodeid)
    for reason, names in by_reason.items():
        terminalreporter.write_line(reason)
        for name in names:
            terminalreporter.write_line(f"  {name}")
    if _must_run_all():
        terminalreporter.write_line(f"GREENROOM_TEST_ALL=1: {len(skipped)} tests were left out, so this run fails.", red=True)


def pytest_sessionfinish(session: pytest.Session, exitstatus: int) -> None:
    reporter = session.config.pluginmanager.get_plugin("terminalreporter")
    if exitstatus == pytest.ExitCode.OK and _must_run_all() and reporter is not None and reporter.stats.get("skipped"):
        session.exitstatus = pytest.ExitCode.TESTS_FAILED


def _must_run_all() -> bool:
    return os.environ.get("GREENROOM_TEST_ALL") == "1"
