from pathlib import Path

import pytest

from delivery.environment import JudgeSettings, WatchSettings
from tasks.charts import charts
from tests.samples import an_environment
from tests.tasks.test_rollout import GREEN, QUICKLY, World


@pytest.fixture
def world(tmp_path: Path) -> World:
    return World(tmp_path)


def test_errors_p95_and_shares_are_drawn_for_both_versions(world: World) -> None:
    world.traffic.error_share[GREEN.id] = 0.01
    world.roll_out()

    errors, p95, share = charts(world.store.entries(world.rollouts[-1]))

    assert [line.label for line in errors.lines] == ["v1.2.0", "v1.1.0"]
    assert errors.limit == 5
    green = [y for _, y in errors.lines[0].points if y is not None]
    assert 0.5 < sum(green) / len(green) < 1.5
    assert not p95.is_empty
    assert sorted({y for _, y in share.lines[0].points}) == [10, 50, 100]
    seconds = [x for x, _ in errors.lines[0].points]
    assert seconds == sorted(seconds)


def test_the_judges_evidence_is_drawn_against_what_it_needs(tmp_path: Path) -> None:
    world = World(tmp_path)
    world.environment = an_environment(judge=JudgeSettings())
    world.traffic.error_share[GREEN.id] = 0.08
    world.roll_out()

    [evidence] = [chart for chart in charts(world.store.entries(world.rollouts[-1])) if chart.title == "evidence"]

    assert evidence.limit == 100
    assert max(y for _, y in evidence.lines[0].points if y is not None) >= 100


def test_a_rollout_that_was_never_watched_has_no_charts(world: World) -> None:
    world.environment = QUICKLY
    world.roll_out()
    assert charts(world.store.entries(world.rollouts[-1])) == ()


def test_one_look_alone_is_drawn_over_its_whole_time_with_its_step(tmp_path: Path) -> None:
    world = World(tmp_path)
    slowly = WatchSettings(interval_seconds=15, window_seconds=30, minimum_requests=50, blind_seconds=60)
    world.environment = an_environment(judge=JudgeSettings(), watch=slowly)
    world.traffic.error_share[GREEN.id] = 0.9
    world.roll_out()
    entries = world.store.entries(world.rollouts[-1])

    for chart in charts(entries):
        [(begin, end, name)] = chart.bands
        assert (name, chart.lines[0].points[0][0], chart.lines[0].points[-1][0]) == ("10 %", begin, end)
        assert end > begin
