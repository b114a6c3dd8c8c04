"""The short form of `make chaos` on a real stand: the scenarios that tell most, one after another on one lane."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.chaos.real.effects import Effect, Point, Recorder, read_effects
from tests.chaos.real.harness import table, telling_stories
from tests.chaos.real.kills import Found, points, thinned
from tests.chaos.real.lane import Lane, Row, Story
from tests.chaos.real.mutants import caught_in
from tests.chaos.real.mutants import stories as mutated_stories


@pytest.fixture(scope="module")
def lane(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Lane]:
    lane = Lane(tmp_path_factory.mktemp("chaos"), "short")
    try:
        lane.open()
        yield lane
    finally:
        lane.close()


@pytest.mark.docker
@pytest.mark.parametrize("story", telling_stories(), ids=lambda story: story.name)
def test_users_never_notice(lane: Lane, story: Story) -> None:
    row = lane.tell(story)
    assert row.violations == []
    assert row.requests > 0
    assert row.failed == 0
    assert row.ending in ("LIVE", "ROLLED_BACK", "UNTOUCHED")


def effect(name: str, when: str = "begin") -> Effect:
    kind, _, what = name.partition("/")[2].partition(" ")
    return Effect(0.0, 1, "walker", 1, name, kind, what, "", when, {})


def test_the_second_replica_is_no_new_point_to_be_killed_at() -> None:
    seen = [
        effect("launch/create api-0"),
        effect("launch/create api-1"),
        effect("launch/create api-0", "done"),
        effect("launch/start api-0"),
    ]
    assert thinned(seen) == ["launch/create api-0", "launch/start api-0"]


def test_an_effect_is_noted_before_it_happens_and_after(tmp_path: Path) -> None:
    log = tmp_path / "effects.jsonl"
    recorder = Recorder(log, "walker", None)
    seen_meanwhile = recorder.around("create", "api-0", lambda: [effect.when for effect in read_effects(log)])
    with pytest.raises(OSError, match="full"):
        recorder.around("create", "api-0", failing)
    told = [(effect.name, effect.when) for effect in read_effects(log)]
    assert seen_meanwhile == ["begin"]
    assert told == [
        ("open/create api-0", "begin"),
        ("open/create api-0", "done"),
        ("open/create api-0#2", "begin"),
        ("open/create api-0#2", "broke"),
    ]


def test_an_effect_that_is_tried_again_keeps_its_name(tmp_path: Path) -> None:
    recorder = Recorder(tmp_path / "effects.jsonl", "walker", None)
    with pytest.raises(OSError, match="full"):
        recorder.around("create", "api-0", failing)
    recorder.around("create", "api-0", lambda: None)
    assert {effect.name for effect in read_effects(tmp_path / "effects.jsonl")} == {"open/create api-0"}


def failing() -> None:
    raise OSError("the disk is full")


def test_a_point_strikes_where_it_was_asked_to(tmp_path: Path) -> None:
    point = Point("open/stop api-0", "after", "wait", str(tmp_path / "point"))
    point.go.touch()
    recorder = Recorder(tmp_path / "effects.jsonl", "walker", point)
    assert recorder.around("stop", "api-0", point.reached.exists) is False
    assert point.reached.exists()
    assert [effect.when for effect in read_effects(tmp_path / "effects.jsonl")] == ["begin", "done", "strike"]


def test_a_step_that_is_finished_is_killed_before_it_says_so_and_an_act_on_both_sides() -> None:
    found = Found(forward=("launch/create api-0", "launch/journal Finished"), retire=(), back=("launch/create api-0",), recovery=())
    assert points(found) == [
        ("forward", "launch/create api-0", "before"),
        ("forward", "launch/create api-0", "after"),
        ("forward", "launch/journal Finished", "before"),
    ]


def test_a_mechanism_counts_as_caught_only_when_its_row_is_red() -> None:
    lease, draining = (story for story in mutated_stories() if story.without in ("lease", "draining"))
    rows = [Row(lease.name, lease.group, violations=["I2: two releases are live"]), Row(draining.name, draining.group)]
    assert caught_in(rows) == ["lease"]


def test_the_table_has_a_line_per_scenario() -> None:
    rows = [Row("killed", "kill", ending="LIVE", requests=400, failed=0, recovered=3.21)]
    assert table(rows).splitlines()[-1] == "| killed | kill | LIVE | 400 | 0 | 0 | 3.2 |"
