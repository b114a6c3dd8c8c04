import json
import threading
from collections.abc import Callable
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path

import pytest

from cli.replay_judge import print_verdicts
from delivery.alerts import CAUSE
from delivery.calibration import Calibration
from delivery.canary import Decision
from delivery.environment import JudgeSettings, WatchSettings
from delivery.errors import TransientError
from delivery.health import Counters, HealthReport
from delivery.journal import Evidence
from delivery.noise import Halves, measured_noise
from delivery.plan import Step, StepKind
from delivery.ports import Token
from delivery.triggers import Trigger
from tasks.judging import FACTS, LOOKS_FILE, Judging
from tasks.scene import Scene
from tasks.watch import watch
from tests.samples import a_plan, a_release, an_environment
from tests.simulated_target import SimulatedTarget, SimulatedTraffic, VirtualClock
from tests.tasks.test_rollout import World

BLUE, GREEN = a_release("1.1.0"), a_release("1.2.0")
AT_50 = Step("watch-50", StepKind.WATCH, deadline_seconds=900, percent=50, seconds=600)
AT_100 = Step("watch-100", StepKind.WATCH, deadline_seconds=300, percent=100, seconds=60)
ERRORS = Trigger("error_rate", threshold=0.05, for_seconds=120)


class Stage:
    """Both versions up, half of the users each, blue with a life of its own behind it."""

    def __init__(self, folder: Path, *, earlier: tuple[Evidence, ...] = (), **judge: object) -> None:
        self.clock, self.target, self.stop = VirtualClock(), SimulatedTarget(), threading.Event()
        self.traffic = SimulatedTraffic(self.target, self.clock)
        self.target.serve(BLUE)
        self.target.serve(GREEN)
        self.target.weights = {BLUE.id: 100, GREEN.id: 0}
        self.clock.wait(600)
        self.traffic.count()
        self.target.weights = {BLUE.id: 50, GREEN.id: 50}
        settings = WatchSettings(interval_seconds=5, window_seconds=30, minimum_requests=50, blind_seconds=60)
        environment = an_environment(trigger=(ERRORS,), watch=settings, judge=JudgeSettings(**judge))  # type: ignore[arg-type]
        self.folder = folder
        self.scene = Scene(
            plan=a_plan(GREEN, BLUE, self.target, environment),
            target=self.target,
            metrics=self.traffic,
            token=Token("production", "production-1", 1),
            ensure=lambda: None,
            stop=self.stop,
            folder=folder,
            earlier=lambda: earlier,
            clock=self.clock,
        )

    def watch(self, step: Step = AT_50) -> Evidence:
        return watch(step, self.scene)

    def from_now(self, second: float, act: Callable[[], None]) -> None:
        def with_the_books_closed() -> None:
            self.traffic.count()
            act()

        self.clock.at(self.clock.now() + second, with_the_books_closed)


def test_a_sick_green_is_turned_back_by_the_evidence_before_the_limit_has_been_held(tmp_path: Path) -> None:
    stage = Stage(tmp_path)
    stage.traffic.error_share[GREEN.id] = 0.08
    began = stage.clock.now()

    evidence = stage.watch()

    assert not evidence.well
    assert evidence.summary.startswith("green answers 8 % errors, blue 0 %; ")
    assert evidence.facts[CAUSE] == "errors"
    assert "; rolled back at 50 % (" in evidence.summary
    assert stage.clock.now() - began < ERRORS.for_seconds


def test_a_green_that_the_judge_finds_slow_is_sent_back_for_that(tmp_path: Path) -> None:
    stage = Stage(tmp_path)
    stage.traffic.seconds_each[GREEN.id] = 2.5

    evidence = stage.watch()

    assert not evidence.well
    assert "of green's answers take longer than" in evidence.summary
    assert evidence.facts[CAUSE] == "slow"


def test_without_the_judge_the_limit_has_to_be_held(tmp_path: Path) -> None:
    stage = Stage(tmp_path, enabled=False)
    stage.traffic.error_share[GREEN.id] = 0.08
    began = stage.clock.now()

    evidence = stage.watch()

    assert evidence.summary.startswith("error rate 8 % is above 5 % for 120 s")
    assert stage.clock.now() - began >= ERRORS.for_seconds
    assert FACTS not in evidence.facts


def test_a_green_like_blue_is_watched_for_its_whole_time(tmp_path: Path) -> None:
    stage = Stage(tmp_path)
    began = stage.clock.now()

    evidence = stage.watch()

    assert evidence.well
    assert stage.clock.now() - began == AT_50.seconds
    assert "no worse than the margins allow" in evidence.summary


def test_a_green_that_is_shown_to_be_no_worse_ends_the_watch_early_where_that_counts(tmp_path: Path) -> None:
    stage = Stage(tmp_path, promote_early=True)
    began = stage.clock.now()

    evidence = stage.watch()

    assert evidence.well
    assert stage.clock.now() - began < (AT_50.seconds or 0) / 2


def test_an_early_end_waits_for_the_absolute_limits(tmp_path: Path) -> None:
    stage = Stage(tmp_path, promote_early=True)

    def silent(*_: object, **__: object) -> HealthReport:
        raise SilentError

    stage.target.check = silent  # type: ignore[method-assign]

    evidence = stage.watch()

    assert not evidence.well
    assert "its replicas cannot be asked" in evidence.summary


class SilentError(TransientError):
    def __init__(self) -> None:
        super().__init__("The engine is silent.", next="wait.")


def test_the_judge_goes_on_where_the_watch_before_left_it(tmp_path: Path) -> None:
    """Neither watch alone is long enough for the evidence."""
    short = replace(AT_50, seconds=45)
    first = Stage(tmp_path)
    first.traffic.error_share[GREEN.id] = 0.015
    before = first.watch(short)
    assert before.well

    alone = Stage(tmp_path)
    alone.traffic.error_share[GREEN.id] = 0.015
    together = Stage(tmp_path, earlier=(before,))
    together.traffic.error_share[GREEN.id] = 0.015

    remembered = [stage.watch(short).facts[FACTS] for stage in (alone, together)]
    evidence = [facts["evidence"] for facts in remembered]  # type: ignore[index,call-overload]
    assert evidence[1] > evidence[0] > 1


def test_what_the_judge_remembers_survives_json(tmp_path: Path) -> None:
    stage = Stage(tmp_path)
    facts = stage.watch(replace(AT_50, seconds=45)).facts
    again = Evidence(well=True, summary="", facts=json.loads(json.dumps(facts)))

    judging = Judging(stage.scene.plan, (again,), tmp_path)

    assert judging.facts()["state"] == facts[FACTS]["state"]  # type: ignore[index,call-overload]


def test_a_memory_that_cannot_be_read_begins_anew(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    broken = Evidence(well=True, summary="", facts={FACTS: {"context": {}, "state": {}}})
    judging = Judging(Stage(tmp_path).scene.plan, (broken,), tmp_path)
    assert judging.facts() == {}
    assert "it begins anew" in caplog.text


def test_a_blue_that_has_answered_nobody_is_waited_for(tmp_path: Path) -> None:
    judging = Judging(Stage(tmp_path).scene.plan, (), tmp_path)
    judging.see(0, Counters(), Counters(), None)
    assert judging.facts() == {}
    for second in range(5, 60, 5):
        judging.see(second, _counted(second * 10, errors=second), _counted(second * 10, errors=0), None)
    assert judging.verdict is not None
    assert judging.verdict.evidence > 100


def test_with_every_user_on_green_there_is_nobody_to_compare_with(tmp_path: Path) -> None:
    stage = Stage(tmp_path)
    stage.target.weights = {BLUE.id: 0, GREEN.id: 100}
    assert FACTS not in stage.watch(AT_100).facts


def test_every_look_is_kept_in_the_form_that_replay_reads(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    stage = Stage(tmp_path)
    stage.traffic.error_share[GREEN.id] = 0.08
    summary = stage.watch().summary

    print_verdicts(tmp_path / LOOKS_FILE, keep_going=False)

    last = json.loads(capsys.readouterr().out.splitlines()[-1])
    assert last["verdict"] == "ROLLBACK"
    assert last["reason"] in summary


def test_a_full_disk_costs_the_looks_and_nothing_else(tmp_path: Path) -> None:
    folder = tmp_path / "nowhere"
    folder.write_text("a file, where a folder should be")
    assert Stage(folder).watch(replace(AT_50, seconds=45)).well


def test_scrapes_that_failed_come_with_the_next_look(tmp_path: Path) -> None:
    plan = Stage(tmp_path).scene.plan
    judging, whole = Judging(plan, (), tmp_path), Judging(plan, (), tmp_path / "whole")
    for second in range(0, 100, 5):
        green, blue = _counted(second * 10, errors=second), _counted(1000 + second * 10, errors=0)
        whole.see(second, green, blue, None)
        judging.see(second, *((None, None) if 30 <= second < 60 else (green, blue)), None)
    assert judging.verdict is not None
    assert whole.verdict is not None
    assert judging.verdict.evidence > 100
    assert _requests(judging) == _requests(whole)


def _requests(judging: Judging) -> int:
    totals = judging._state.errors.totals
    return totals.requests


def _counted(requests: int, *, errors: int) -> Counters:
    return Counters(
        {200: float(requests - errors), 500: float(errors)}, {0.1: requests * 0.9, 1.0: float(requests), float("inf"): requests}
    )


def test_each_service_is_a_group_of_its_own(tmp_path: Path) -> None:
    plan = Stage(tmp_path).scene.plan
    judging = Judging(plan, (), tmp_path)
    for second in range(0, 60, 5):
        web, well, sick = (_counted(second * each, errors=errors) for each, errors in ((100, second), (2, 0), (2, second // 2)))
        green, blue = ({"web": web, "api": api} for api in (sick, well))
        judging.see(second, *(replace(Counters.sum(parts.values()), parts=parts) for parts in (green, blue)), None)
    assert judging.verdict is not None
    assert "errors on api" in judging.verdict.reason


CLUMPS = tuple(Halves(1000, 1000, *((20, 0) if number % 2 else (0, 20))) for number in range(60))
MEASURED = Calibration("production", "api", BLUE.id, datetime(2026, 7, 1, tzinfo=UTC), 15.0, CLUMPS)


def test_errors_that_come_in_clumps_are_no_evidence_once_blue_was_seen_to_have_them(tmp_path: Path) -> None:
    plan = Stage(tmp_path).scene.plan
    seen = []
    for number, calibrations in enumerate([(), (MEASURED,)]):
        judging = Judging(plan, (), tmp_path / str(number), calibrations)
        for second in range(0, 65, 5):
            judging.see(second, _counted(second * 100, errors=second // 3), _counted(9000 + second * 100, errors=0), None)
        seen.append(judging.verdict)
    unknown, known = seen
    assert unknown is not None
    assert known is not None
    assert unknown.decision is Decision.ROLLBACK
    assert known.decision is not Decision.ROLLBACK


def test_what_was_known_of_blues_noise_is_kept_for_replay_and_for_the_next_watch(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    plan = Stage(tmp_path).scene.plan
    judging = Judging(plan, (), tmp_path, (MEASURED,))
    for second in range(0, 65, 5):
        judging.see(second, _counted(second * 100, errors=second // 3), _counted(9000 + second * 100, errors=0), None)

    context = judging.facts()["context"]
    noise = measured_noise(CLUMPS)
    assert context["noise"] == {"clump": noise.clump, "ratio": noise.ratio}  # type: ignore[index,call-overload]
    again = Judging(plan, (Evidence(well=True, summary="", facts={FACTS: judging.facts()}),), tmp_path / "again")
    assert again.facts()["context"] == context

    print_verdicts(tmp_path / LOOKS_FILE, keep_going=False)
    replayed = json.loads(capsys.readouterr().out.splitlines()[-1])
    assert replayed["evidence"] == judging.facts()["evidence"]


def test_a_rollout_hands_what_is_known_of_blues_noise_to_its_judge(tmp_path: Path) -> None:
    world = World(tmp_path, environment=an_environment(judge=JudgeSettings()))
    world.roll_out(means=replace(world.means, calibrations=(MEASURED,)))
    facts = world.evidence("watch-50").evidence.facts[FACTS]
    assert facts["context"]["noise"]["clump"] == measured_noise(CLUMPS).clump  # type: ignore[index,call-overload]


@pytest.mark.parametrize(("judged", "told"), [(True, "rolled back at 50 %"), (False, "error rate 8 % is above 5 %")])
def test_what_the_scrape_decides_does_not_wait_for_the_replicas_to_be_asked(tmp_path: Path, *, judged: bool, told: str) -> None:
    """A sick replica answers its health path after seconds, or never: neither the judge nor a limit on requests needs it."""
    stage = Stage(tmp_path, enabled=judged)
    stage.traffic.error_share[GREEN.id] = 0.08
    scraped, asked = [], []
    scrape, check = stage.traffic.scrape, stage.target.check
    stage.traffic.scrape = lambda releases: (scraped.append(stage.clock.now()), scrape(releases))[1]  # type: ignore[method-assign]
    stage.target.check = lambda release, patterns=(): (asked.append(stage.clock.now()), check(release, patterns))[1]  # type: ignore[method-assign]

    evidence = stage.watch()

    assert told in evidence.summary
    assert scraped[-1] == stage.clock.now()
    assert asked[-1] == scraped[-2]
