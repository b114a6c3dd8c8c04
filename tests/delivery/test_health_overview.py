"""What a team reads about an environment: each figure with a verdict, and nothing that is not known passes for zero or for well."""

from dataclasses import replace

import pytest

from delivery.application import Exposition
from delivery.health import Counters
from delivery.health_overview import EnvironmentHealth, grown_between, health_of, wanted_gauges
from delivery.release import Release
from delivery.triggers import Trigger
from tests.samples import a_release

BARE = a_release()
NAMED = Exposition(gauges={"database_pool": "shop_pool", "redis": "shop_redis", "queue_depth": "shop_jobs"})
RELEASE = a_release(services=(replace(BARE.services[0], metrics=NAMED), BARE.services[1]))
LIMITS = (Trigger("error_rate", 0.05, 45), Trigger("p95_ms", 500, 45), Trigger("gauge", 18, 60, gauge="shop_pool"))
GAUGES = {"shop_pool": 4.0, "shop_redis": 7.0, "shop_jobs": 0.0}
INF = float("inf")


def counted(well: float, missing: float = 0, broken: float = 0, *, quick: float = 1.0) -> Counters:
    """Of all answers the share `quick` took 100 ms at most, the others up to a second."""
    total = well + missing + broken
    return Counters({200: well, 404: missing, 500: broken}, {0.1: total * quick, 1.0: total, INF: total})


def seen(grew: Counters | None, *, gauges: dict[str, float] = GAUGES, release: Release = RELEASE, silent: str = "") -> EnvironmentHealth:
    return health_of("production", [release], grew=grew, seconds=10, gauges=gauges, limits=LIMITS, silent=silent)


def rows(health: EnvironmentHealth) -> dict[str, tuple[str, str]]:
    return {one.name: (one.shown, one.verdict) for one in health.figures}


def test_a_well_environment_shows_every_figure_and_says_so() -> None:
    health = seen(counted(95, 4, 1))
    assert rows(health) == {
        "Requests": ("10 requests/s", "no limit"),
        "4xx": ("4 %", "no limit"),
        "5xx": ("1 %", "well"),
        "p50": ("50 ms", "no limit"),
        "p95": ("95 ms", "well"),
        "p99": ("99 ms", "no limit"),
        "Database pool": ("4", "well"),
        "Redis": ("7", "no limit"),
        "Queue depth": ("0", "no limit"),
    }
    assert health.verdict == "well"
    assert health.sentence() == "Production is well: 10 requests/s, 5xx 1 %, p95 95 ms."


def test_what_is_over_its_limit_is_named_with_its_limit() -> None:
    health = seen(counted(90, 0, 10, quick=0.5), gauges={**GAUGES, "shop_pool": 19.0})
    assert health.verdict == "over its limit"
    assert health.sentence() == (
        "Production is over a limit: 5xx 10 %, at most 5 %; p95 910 ms, at most 500 ms; Database pool 19, at most 18."
    )


def test_a_value_at_its_limit_is_well() -> None:
    assert rows(seen(counted(95, 0, 5)))["5xx"] == ("5 %", "well")


def test_what_nobody_tells_is_unknown_and_never_zero() -> None:
    health = seen(None, gauges={}, silent="Traefik does not answer.")
    assert [(one.value, one.verdict) for one in health.figures] == [(None, "unknown")] * 9
    assert health.verdict == "unknown"
    assert "Traefik does not answer" in health.sentence()


def test_one_silent_gauge_makes_the_environment_unknown_by_name() -> None:
    health = seen(counted(100), gauges={"shop_pool": 4.0, "shop_redis": 7.0})
    assert health.sentence() == "Production is not known to be well: Queue depth (nothing told shop_jobs)."


def test_without_requests_there_is_nothing_to_measure() -> None:
    health = seen(counted(0))
    assert rows(health)["Requests"] == ("0 requests/s", "no limit")
    assert {one.value for one in health.figures[1:6]} == {None}
    assert health.sentence() == "Production has had no request for 10 s."


def test_what_no_application_names_is_not_measured_and_said() -> None:
    health = health_of("staging", [BARE], grew=counted(100), seconds=10, gauges={}, limits=())
    assert [one.verdict for one in health.figures[-3:]] == ["not measured"] * 3
    assert health.sentence().endswith("Not measured: Database pool, Redis, Queue depth.")
    assert "has no limit to be judged by" in health.sentence()


def test_a_limits_own_gauge_has_a_row_of_its_own() -> None:
    limit = Trigger("gauge", 5, 60, gauge="shop_threads")
    health = health_of("staging", [BARE], grew=counted(100), seconds=10, gauges={"shop_threads": 6.0}, limits=[limit])
    assert rows(health)["shop_threads"] == ("6", "over its limit")
    assert wanted_gauges([RELEASE], [limit]) >= {"shop_pool", "shop_redis", "shop_jobs", "shop_threads", "queue_depth"}


def test_another_metric_source_may_tell_a_figure_by_its_own_name() -> None:
    health = health_of("staging", [BARE], grew=counted(100), seconds=10, gauges={"redis": 3.0}, limits=())
    assert rows(health)["Redis"] == ("3", "no limit")


def test_nothing_live_has_no_figures() -> None:
    health = health_of("staging", [], grew=None, seconds=10, gauges={}, limits=LIMITS)
    assert (health.figures, health.sentence()) == ((), "Nothing is live in staging.")


@pytest.mark.parametrize("first", [{}, {"v1": counted(50, 10)}])
def test_growth_that_nobody_knows_is_none(first: dict[str, Counters]) -> None:
    """Seen once only; or some counters fell and others rose."""
    assert grown_between(first, {"v1": counted(60, 5)}, ["v1"]) is None


def test_growth_is_summed_over_the_releases_that_have_users() -> None:
    grew = grown_between({"v1": counted(50), "v2": counted(1)}, {"v1": counted(70), "v2": counted(11), "v0": counted(9)}, ["v1", "v2"])
    assert grew is not None
    assert grew.requests == 30
