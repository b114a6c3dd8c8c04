"""Two scrapes of the sources that rollouts are watched with, and what is left of the looks before."""

import base64
import re
from datetime import UTC, datetime
from pathlib import Path

import pytest

from delivery.health_overview import EnvironmentHealth
from delivery.triggers import Trigger
from tasks.health import KEPT_LOOKS, health_markdown, look_twice, remember
from tests.samples import a_release
from tests.simulated_target import SimulatedTarget, SimulatedTraffic, VirtualClock

RELEASE = a_release()
LIMITS = (Trigger("error_rate", 0.05, 45),)
NOON = datetime(2026, 7, 1, 12, tzinfo=UTC)


@pytest.fixture
def traffic() -> SimulatedTraffic:
    target, clock = SimulatedTarget(), VirtualClock()
    target.serve(RELEASE)
    return SimulatedTraffic(target, clock)


def looked(traffic: SimulatedTraffic) -> EnvironmentHealth:
    return look_twice("production", [RELEASE], traffic, limits=LIMITS, seconds=15, clock=traffic.clock)


def test_rates_are_of_the_seconds_between_two_scrapes(traffic: SimulatedTraffic) -> None:
    traffic.error_share[RELEASE.id] = 0.1
    traffic.clock.wait(1000)
    seen = looked(traffic)
    assert (seen.value("Requests"), seen.value("5xx"), seen.seconds) == (pytest.approx(20.0), pytest.approx(0.1), 15)
    assert seen.verdict == "over its limit"


def test_a_silent_source_is_unknown_with_its_reason(traffic: SimulatedTraffic) -> None:
    traffic.silent = True
    seen = looked(traffic)
    assert (seen.verdict, seen.value("Requests")) == ("unknown", None)
    assert "The metrics do not answer." in seen.sentence()


def test_without_a_source_nothing_is_known() -> None:
    seen = look_twice("production", [RELEASE], None, limits=LIMITS, seconds=15, clock=VirtualClock())
    assert "no metric source bears the name production" in seen.sentence()


def test_looks_are_remembered_up_to_a_number_and_unknown_stays_unknown(traffic: SimulatedTraffic, tmp_path: Path) -> None:
    file = tmp_path / "health" / "production.json"
    traffic.silent = True
    remember(file, looked(traffic), at=NOON)
    traffic.silent = False
    points = remember(file, looked(traffic), at=NOON)
    assert [point.rate for point in points] == [None, pytest.approx(20.0)]
    for _ in range(KEPT_LOOKS):
        points = remember(file, looked(traffic), at=NOON)
    assert len(points) == KEPT_LOOKS
    assert [entry.name for entry in file.parent.iterdir()] == ["production.json"]


@pytest.mark.parametrize("text", ["", "[1]", "{}", '[["a", 1, 1, 1, 1]]', "[[1]]"])
def test_a_past_that_cannot_be_read_begins_anew(traffic: SimulatedTraffic, tmp_path: Path, text: str) -> None:
    file = tmp_path / "production.json"
    file.write_text(text)
    assert len(remember(file, looked(traffic), at=NOON)) == 1


def test_the_page_has_a_row_per_figure_and_pictures_of_the_past(traffic: SimulatedTraffic, tmp_path: Path) -> None:
    file = tmp_path / "production.json"
    points = [remember(file, looked(traffic), at=NOON) for _ in range(2)][-1]
    page = health_markdown(looked(traffic), at=NOON, points=points)
    assert page.startswith("# Production ")
    assert "| 5xx | 0 % | at most 5 % | well |  |" in page
    pictures = [base64.b64decode(found).decode() for found in re.findall(r"data:image/svg\+xml;base64,([^)]+)", page)]
    assert [found.count("<svg") for found in pictures] == [1, 1, 1]
    assert "Requests per second" in pictures[0]
