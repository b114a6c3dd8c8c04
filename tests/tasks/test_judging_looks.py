"""What the judge of a watch is told: each decision on the way from scrapes to looks."""

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from delivery.health import Counters
from delivery.journal import Evidence
from tasks.judging import FACTS, LOOKS_FILE, Judging
from tests.tasks.test_judging import Stage, _counted

CAREFUL = {"alpha": 0.001, "warm_up_seconds": 5.0}


def judging(folder: Path, *earlier: Evidence, **judge: object) -> Judging:
    return Judging(Stage(folder, **judge).scene.plan, earlier, folder)


def seen(judging: Judging, seconds: range, memory: tuple[float, float] | None = None) -> Judging:
    for second in seconds:
        judging.see(second, _counted(second * 10, errors=0), _counted(1000 + second * 10, errors=0), memory)
    return judging


def lines(folder: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in (folder / LOOKS_FILE).read_text().splitlines()]


def left(judging: Judging) -> Evidence:
    return Evidence(well=True, summary="", facts={FACTS: judging.facts()})


def test_only_watches_with_users_on_both_are_planned_for(tmp_path: Path) -> None:
    seen(judging(tmp_path), range(0, 5, 5))
    assert lines(tmp_path)[0]["context"]["looks_planned"] == (120 + 120) / 15


def test_what_green_did_before_blue_was_known_is_left_aside(tmp_path: Path) -> None:
    one = judging(tmp_path)
    one.see(0, Counters(), Counters(), None)
    one.see(5, _counted(5000, errors=900), _counted(1000, errors=0), None)
    for second in (10, 15, 20):
        one.see(second, _counted(5000 + second, errors=900), _counted(1000 + second, errors=0), None)
    assert lines(tmp_path)[1]["n_g"] == 20
    assert lines(tmp_path)[1]["x_g"] == 0


def test_a_look_is_as_long_as_it_was_and_knows_the_memory(tmp_path: Path) -> None:
    one = judging(tmp_path)
    for second in (0, 10, 20, 45):
        one.see(second, _counted(second * 10, errors=0), _counted(1000 + second * 10, errors=0), (0.5, 0.25))
    assert lines(tmp_path)[1]["seconds"] == 45
    assert lines(tmp_path)[1]["gauges"] == {"memory_g": 0.5, "memory_b": 0.25}


def test_one_bound_alone_is_nothing_to_compare_latency_by(tmp_path: Path) -> None:
    one = judging(tmp_path)
    one.see(0, _counted(10, errors=0), Counters({200: 10.0}, {1.0: 10.0, float("inf"): 10.0}), None)
    assert one.facts() == {}


def test_how_blue_usually_answers_is_what_it_counted_in_its_life(tmp_path: Path) -> None:
    seen(judging(tmp_path), range(0, 5, 5))
    assert lines(tmp_path)[0]["context"]["base"] == pytest.approx([0.9, 0.1, 0.0])


def test_of_several_watches_the_last_one_is_gone_on_from(tmp_path: Path) -> None:
    first = left(seen(judging(tmp_path), range(0, 20, 5)))
    second = left(seen(judging(tmp_path, first), range(0, 20, 5)))
    assert judging(tmp_path, first, second).facts()["state"] == second.facts[FACTS]["state"]  # type: ignore[index,call-overload]
    assert judging(tmp_path, second, first).facts()["state"] == first.facts[FACTS]["state"]  # type: ignore[index,call-overload]


def test_the_judge_is_as_careful_as_the_file_says_from_its_first_look_and_later(tmp_path: Path) -> None:
    one = seen(judging(tmp_path, **CAREFUL), range(0, 20, 5))
    again = judging(tmp_path, left(one), **CAREFUL)
    for each in (one, again):
        assert each._judge is not None
        assert (each._judge.policy.alpha, each._judge.policy.warm_up_seconds) == (0.001, 5.0)
    assert lines(tmp_path)[0]["context"]["alpha"] == 0.001


def test_counters_that_contradict_themselves_are_no_look(tmp_path: Path) -> None:
    one = judging(tmp_path)
    one.see(0, _counted(1000, errors=100), _counted(1000, errors=0), None)
    for second in (5, 10, 15):
        one.see(second, _counted(2000, errors=50), _counted(2000, errors=0), None)
    assert one.verdict is None
    assert len(lines(tmp_path)) == 1


def test_groups_are_compared_by_errors_only_and_one_service_is_none(tmp_path: Path) -> None:
    alone, both = judging(tmp_path / "alone"), judging(tmp_path / "both")
    for second in range(0, 20, 5):
        whole = _counted(second * 10, errors=0)
        one = replace(whole, parts={"api": whole})
        two = replace(whole, parts={"api": whole, "web": whole})
        alone.see(second, one, one, None)
        both.see(second, two, two, None)
    assert dict(alone._state.groups) == {}
    assert set(both._state.groups) == {"api", "web"}
    assert all(group.totals.green.buckets == () for group in both._state.groups.values())


def test_a_watch_without_a_judge_left_nothing_and_that_is_no_trouble(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    assert judging(tmp_path, Evidence(well=True, summary="", facts={FACTS: {}})).facts() == {}
    assert "it begins anew" not in caplog.text
