import threading
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest

from delivery.alerts import CAUSE, AlertKind
from delivery.environment import WatchSettings
from delivery.errors import StaleFence, TransientError
from delivery.health import Counters, HealthReport, ProbeResult
from delivery.journal import Evidence
from delivery.plan import Step, StepKind
from delivery.ports import Token
from delivery.triggers import Trigger
from tasks.scene import Scene
from tasks.traffic import Traffic
from tasks.watch import watch
from tests.delivery.test_alerts import alerts, rollout
from tests.samples import a_plan, a_release, an_environment
from tests.simulated_target import SimulatedTarget, SimulatedTraffic, VirtualClock

BLUE, GREEN = a_release("1.1.0"), a_release("1.2.0")
STEP = Step("watch-50", StepKind.WATCH, deadline_seconds=300, percent=50, seconds=120)
SETTINGS = WatchSettings(interval_seconds=5, window_seconds=30, minimum_requests=50, blind_seconds=60)


class Stage:
    """Both versions up, half of the users each."""

    def __init__(self, folder: Path, *triggers: Trigger, settings: WatchSettings = SETTINGS) -> None:
        self.clock, self.target, self.stop = VirtualClock(), SimulatedTarget(), threading.Event()
        self.traffic = SimulatedTraffic(self.target, self.clock)
        self.target.serve(BLUE)
        self.target.serve(GREEN)
        self.target.weights = {BLUE.id: 50, GREEN.id: 50}
        environment = an_environment(trigger=triggers, watch=settings)
        self.told: list[str] = []
        self.scene = Scene(
            plan=a_plan(GREEN, BLUE, self.target, environment),
            target=self.target,
            metrics=self.traffic,
            token=Token("production", "production-1", 1),
            ensure=lambda: None,
            stop=self.stop,
            folder=folder,
            on_progress=self.told.append,
            clock=self.clock,
        )

    def from_now(self, second: float, act: Callable[[], None]) -> None:
        def with_the_books_closed() -> None:
            self.traffic.count()
            act()

        self.clock.at(second, with_the_books_closed)

    def watch(self, step: Step = STEP) -> Evidence:
        return watch(step, self.scene)

    def report(self, **changes: object) -> None:
        self.target.reports[GREEN.id] = HealthReport(**{"results": (ProbeResult("api-1", well=True),), **changes})  # type: ignore[arg-type]


ERRORS = Trigger("error_rate", threshold=0.05, for_seconds=45)


def test_a_well_release_is_watched_for_exactly_its_time(tmp_path: Path) -> None:
    stage = Stage(tmp_path, ERRORS)

    evidence = stage.watch()

    assert evidence.well
    assert stage.clock.now() == 120
    assert evidence.summary.startswith("v1.2.0 is well at 50 % (green 0 % errors of 300 requests")


def test_errors_fire_after_they_have_been_held_and_name_both_versions(tmp_path: Path) -> None:
    stage = Stage(tmp_path, ERRORS)
    stage.traffic.error_share[GREEN.id] = 0.08

    evidence = stage.watch()

    assert not evidence.well
    assert evidence.summary == (
        "error rate 8 % is above 5 % for 45 s at 50 % (green 8 % errors of 300 requests, blue 0 % errors of 300 requests)"
    )
    assert stage.clock.now() == 5 + 45  # known from the second look on


def test_errors_that_stop_in_time_do_not_fire(tmp_path: Path) -> None:
    stage = Stage(tmp_path, ERRORS)
    stage.traffic.error_share[GREEN.id] = 0.08
    stage.from_now(14, stage.traffic.error_share.clear)

    assert stage.watch().well


def test_a_breach_that_began_late_holds_the_watch_until_it_is_decided(tmp_path: Path) -> None:
    stage = Stage(tmp_path, ERRORS)
    stage.from_now(100, lambda: stage.traffic.error_share.update({GREEN.id: 0.5}))

    evidence = stage.watch()

    assert not evidence.well
    assert stage.clock.now() == 150
    assert evidence.summary.startswith("error rate ")


def test_a_breach_that_heals_in_overtime_lets_the_watch_end_well(tmp_path: Path) -> None:
    stage = Stage(tmp_path, ERRORS)
    stage.from_now(110, lambda: stage.traffic.error_share.update({GREEN.id: 0.3}))
    stage.from_now(121, stage.traffic.error_share.clear)

    evidence = stage.watch()

    assert evidence.well
    assert 120 < stage.clock.now() < 180


def test_blues_errors_are_not_greens(tmp_path: Path) -> None:
    stage = Stage(tmp_path, ERRORS)
    stage.traffic.error_share[BLUE.id] = 0.5

    assert stage.watch().well


def test_a_slow_green_fires_by_its_p95(tmp_path: Path) -> None:
    stage = Stage(tmp_path, Trigger("p95_ms", threshold=2000, for_seconds=30))
    stage.traffic.seconds_each[GREEN.id] = 2.5

    evidence = stage.watch()

    assert not evidence.well
    assert evidence.summary.startswith("p95 response time 2900 ms is above 2000 ms for 30 s at 50 %")


@pytest.mark.parametrize(("metric", "told"), [("cpu", "CPU 95 % is above 90 %"), ("memory", "memory 95 % is above 90 %")])
def test_resources_fire_by_the_fullest_replica(tmp_path: Path, metric: str, told: str) -> None:
    stage = Stage(tmp_path, Trigger(metric, threshold=0.9, for_seconds=10))  # type: ignore[arg-type]
    stage.report(**{metric: 0.95})

    assert stage.watch().summary.startswith(told)


def test_one_critical_log_line_fires_and_is_shown(tmp_path: Path) -> None:
    stage = Stage(tmp_path, Trigger("log_pattern", threshold=0, for_seconds=0))
    stage.from_now(42, lambda: stage.report(log_matches=("panic: index out of range",)))

    evidence = stage.watch()

    assert evidence.summary.startswith("critical log lines 1 is above 0 for 0 s: panic: index out of range at 50 %")
    assert stage.clock.now() == 45
    assert "panic:" in stage.target.patterns


def test_restarts_fire(tmp_path: Path) -> None:
    stage = Stage(tmp_path, Trigger("restarts", threshold=2, for_seconds=0))
    stage.report(restarts=3)

    assert stage.watch().summary.startswith("restarts 3 is above 2")


def test_a_lost_database_fires_before_three_sick_looks(tmp_path: Path) -> None:
    stage = Stage(tmp_path, Trigger("database_lost", threshold=0, for_seconds=0))
    stage.report(results=(ProbeResult("api-1", well=False, detail="answered 503: database disconnected"),))

    assert stage.watch().summary.startswith("database connectivity lost")
    assert stage.clock.now() == 0


def test_a_green_that_is_sick_three_looks_in_a_row_is_turned_back(tmp_path: Path) -> None:
    stage = Stage(tmp_path)
    stage.from_now(42, lambda: stage.report(results=(ProbeResult("api-1", well=False, detail="it has exited (1)."),)))

    evidence = stage.watch()

    assert not evidence.well
    assert evidence.summary.startswith("green is not well: api-1: it has exited (1). at 50 %")
    assert stage.clock.now() == 45 + 2 * 5


LOST = ProbeResult("api-1", well=False, detail="answered 503: database disconnected")
EXITED = ProbeResult("api-1", well=False, detail="it has exited (1).")


def errs(stage: Stage) -> None:
    stage.traffic.error_share[GREEN.id] = 0.08


def is_slow(stage: Stage) -> None:
    stage.traffic.seconds_each[GREEN.id] = 2.5


def is_rarely_asked(stage: Stage) -> None:
    stage.traffic.per_second = 1


@pytest.mark.parametrize(
    ("triggers", "spoil", "cause", "kind"),
    [
        ((ERRORS,), errs, "error_rate", AlertKind.ERROR_SPIKE),
        ((Trigger("p95_ms", threshold=2000, for_seconds=30),), is_slow, "p95_ms", AlertKind.DEGRADED),
        ((Trigger("cpu", threshold=0.9, for_seconds=10),), lambda stage: stage.report(cpu=0.95), "cpu", AlertKind.DEGRADED),
        ((Trigger("restarts", 2, 0),), lambda stage: stage.report(restarts=3), "restarts", AlertKind.HEALTH_FAILED),
        ((Trigger("database_lost", 0, 0),), lambda stage: stage.report(results=(LOST,)), "database_lost", AlertKind.DATABASE_LOST),
        ((), lambda stage: stage.report(results=(LOST,)), "database_lost", AlertKind.DATABASE_LOST),
        ((), lambda stage: stage.report(results=(EXITED,)), "health", AlertKind.HEALTH_FAILED),
        ((ERRORS,), is_rarely_asked, "doubt", AlertKind.DEPLOYMENT_FAILED),
    ],
)
def test_what_green_is_sent_back_for_is_said_in_one_word_that_alerts_understand(
    tmp_path: Path, triggers: tuple[Trigger, ...], spoil: Callable[[Stage], None], cause: str, kind: AlertKind
) -> None:
    stage = Stage(tmp_path, *triggers)
    spoil(stage)
    evidence = stage.watch()
    assert evidence.facts[CAUSE] == cause
    [alert] = alerts(rollout(1, sick={"watch-10": evidence}))
    assert alert.kind is kind


def test_a_watch_that_ends_well_sends_nobody_back_for_anything(tmp_path: Path) -> None:
    assert CAUSE not in Stage(tmp_path, ERRORS).watch().facts


def test_a_green_that_is_sick_twice_is_given_the_benefit_of_the_doubt(tmp_path: Path) -> None:
    stage = Stage(tmp_path)
    stage.from_now(42, lambda: stage.report(results=(ProbeResult("api-1", well=False, detail="slow"),)))
    stage.from_now(51, stage.target.reports.clear)

    assert stage.watch().well


def test_too_few_requests_hold_the_watch_and_then_turn_it_back(tmp_path: Path) -> None:
    stage = Stage(tmp_path, ERRORS)
    stage.traffic.per_second = 1

    evidence = stage.watch()

    assert not evidence.well
    assert stage.clock.now() == 120 + 60
    assert "nobody can tell whether green is well: 15 requests in the last 30 s, expected at least 50" in evidence.summary


def test_users_who_come_late_end_the_holding(tmp_path: Path) -> None:
    stage = Stage(tmp_path, ERRORS)
    stage.traffic.per_second = 1
    stage.from_now(130, lambda: setattr(stage.traffic, "per_second", 20))

    assert stage.watch().well
    assert 130 < stage.clock.now() < 180


def test_metrics_that_go_silent_never_end_well(tmp_path: Path) -> None:
    stage = Stage(tmp_path, ERRORS)
    stage.from_now(60, lambda: setattr(stage.traffic, "silent", True))

    evidence = stage.watch()

    assert not evidence.well
    assert stage.clock.now() == 180
    assert "its metrics cannot be read" in evidence.summary


def test_metrics_that_come_back_count_everything_that_happened_meanwhile(tmp_path: Path) -> None:
    stage = Stage(tmp_path, ERRORS)
    stage.from_now(60, lambda: setattr(stage.traffic, "silent", True))
    stage.clock.at(80, lambda: setattr(stage.traffic, "silent", False))

    evidence = stage.watch()

    assert evidence.well
    assert evidence.facts["green"]["requests"] == 1200  # type: ignore[index]


def test_replicas_that_cannot_be_asked_never_end_well(tmp_path: Path) -> None:
    stage = Stage(tmp_path, ERRORS)
    stage.target.fail("check", times=1000)

    evidence = stage.watch()

    assert not evidence.well
    assert "its replicas cannot be asked" in evidence.summary


def test_a_watch_without_metrics_is_refused_at_once(tmp_path: Path) -> None:
    stage = Stage(tmp_path)

    evidence = watch(STEP, replace(stage.scene, metrics=None))

    assert not evidence.well
    assert stage.clock.now() == 0


def test_cancelling_is_noticed_while_waiting(tmp_path: Path) -> None:
    stage = Stage(tmp_path)
    stage.clock.at(17, stage.stop.set)

    assert stage.watch().summary == "the rollout was cancelled"
    assert stage.clock.now() == 17


def test_a_lost_lease_ends_the_watch(tmp_path: Path) -> None:
    stage = Stage(tmp_path)

    def lost() -> None:
        raise StaleFence("The lease was lost.", next="stop.")

    with pytest.raises(StaleFence):
        watch(STEP, replace(stage.scene, ensure=lost))


def test_the_facts_hold_the_last_looks_only(tmp_path: Path) -> None:
    stage = Stage(tmp_path)

    looks = stage.watch(replace(STEP, seconds=2000)).facts["looks"]

    assert isinstance(looks, list)
    assert len(looks) == 200
    assert looks[-1]["t"] == 2000
    assert looks[-1]["green"] == [20000, 0]


def test_each_look_is_told(tmp_path: Path) -> None:
    stage = Stage(tmp_path)
    stage.watch()

    assert stage.told[4] == "20 of 120 s, green 0 % errors of 200 requests, blue 0 % errors of 200 requests"


def test_counters_that_begin_anew_do_not_hide_requests() -> None:
    traffic = Traffic(window_seconds=30, minimum_requests=1)
    for at, requests in enumerate([100.0, 150.0, 20.0]):
        traffic.see(at, Counters({200: requests}, {1.0: requests, float("inf"): requests}))

    assert traffic.total.requests == 50 + 20


def test_a_window_forgets_what_is_older_than_it() -> None:
    traffic = Traffic(window_seconds=30, minimum_requests=1)
    traffic.see(0, Counters({500: 0, 200: 0}))
    traffic.see(10, Counters({500: 10, 200: 0}))
    traffic.see(39, Counters({500: 10, 200: 90}))
    assert traffic.error_rate == pytest.approx(0.1)
    traffic.see(41, Counters({500: 10, 200: 100}))

    assert traffic.error_rate == 0


def test_the_first_scrape_is_where_counting_begins() -> None:
    traffic = Traffic(window_seconds=30, minimum_requests=0)
    traffic.see(0, Counters({500: 1000}))

    assert traffic.error_rate is None
    assert traffic.total.requests == 0


def test_a_broken_look_is_not_taken_for_silence(tmp_path: Path) -> None:
    stage = Stage(tmp_path)
    stage.target.fail("check", 1, TransientError("busy", next="wait."))

    assert stage.watch().well


POOL = Trigger("gauge", threshold=15, for_seconds=30, gauge="pool_in_use")
QUEUE = Trigger("gauge", threshold=100, for_seconds=0, gauge="jobs_waiting")


def test_a_gauge_beyond_its_limit_turns_back_and_is_named(tmp_path: Path) -> None:
    stage = Stage(tmp_path, QUEUE, POOL)
    stage.traffic.gauges = {"pool_in_use": 3.0, "jobs_waiting": 4.0, "else": 999.0}
    stage.from_now(20, lambda: stage.traffic.gauges.update(pool_in_use=18.0))

    evidence = stage.watch()

    assert not evidence.well
    assert evidence.summary.startswith("pool_in_use 18 is above 15 for 30 s at 50 %")
    assert stage.clock.now() == 50


def test_gauges_within_their_limits_are_well(tmp_path: Path) -> None:
    stage = Stage(tmp_path, QUEUE, POOL)
    stage.traffic.gauges = {"pool_in_use": 15.0, "jobs_waiting": 100.0}
    assert stage.watch().well


def test_a_gauge_that_nobody_knows_is_not_good(tmp_path: Path) -> None:
    stage = Stage(tmp_path, QUEUE, POOL)
    stage.traffic.gauges = {"pool_in_use": 3.0}

    evidence = stage.watch()

    assert evidence.summary.startswith("nobody can tell whether green is well: jobs_waiting is not known at 50 %")
    assert stage.clock.now() == (STEP.seconds or 0) + SETTINGS.blind_seconds


def test_gauges_are_asked_for_only_where_a_limit_names_one(tmp_path: Path) -> None:
    stage = Stage(tmp_path)
    stage.traffic.gauges_of = lambda _: pytest.fail("asked")  # type: ignore[method-assign]
    assert stage.watch().well
