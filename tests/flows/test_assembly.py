"""Which metric sources a watch is given."""

from collections.abc import Callable
from dataclasses import replace

import pytest

from blocks.metrics import TraefikMetrics, WithGauges
from blocks.prometheus import PrometheusMetrics
from delivery.errors import InvalidSettings, TransientError
from delivery.health import Counters
from delivery.ports import Address, MetricSource
from delivery.release import Release
from flows.assembly import House, LocalBlocks
from tests.flows.conftest import Stage
from tests.samples import a_release
from tests.tasks.small_server import serving
from tests.tasks.test_calibration import TOLD

LIMIT = """
[[trigger]]
metric = "gauge"
gauge = "shop_pool_in_use"
threshold = 15
for_seconds = 60
"""
TRAEFIK = TraefikMetrics(admin_url="http://127.0.0.1:9", environment="production")
PROMETHEUS = PrometheusMetrics(url="http://127.0.0.1:9", requests="a", buckets="b", gauges={"shop_pool_in_use": "c"})
GAUGES_ONLY = PrometheusMetrics(url="http://127.0.0.1:9", gauges={"shop_pool_in_use": "c"})


def source_of(stage: Stage, *blocks: tuple[str, object]) -> MetricSource | None:
    known = {("docker-target", "production"): stage.production, **{(slug, "production"): block for slug, block in blocks}}
    house = House(stage.house.settings, stage.house.store, LocalBlocks(known))
    return house.metrics(house.environment("production"))


@pytest.fixture
def limited(stage: Stage) -> Stage:
    file = stage.environments / "production.toml"
    file.write_text(file.read_text() + LIMIT)
    return stage


def test_requests_come_from_traefik_else_from_prometheus(stage: Stage) -> None:
    traefik, prometheus = ("traefik-metrics", TRAEFIK), ("prometheus-metrics", PROMETHEUS)
    assert source_of(stage, traefik, prometheus) is TRAEFIK
    assert source_of(stage, prometheus) is PROMETHEUS
    assert source_of(stage, ("prometheus-metrics", GAUGES_ONLY)) is None
    assert source_of(stage) is None


def test_a_limit_on_a_gauge_is_read_from_the_replicas_and_from_prometheus(limited: Stage) -> None:
    release = a_release()
    release = replace(release, services=(replace(release.services[0], metrics=TOLD),))
    with serving({"/numbers": (200, "shop_pool_in_use 7\n")}) as url:
        limited.production.urls[release.id] = [Address("api", "api-0", url)]
        source = source_of(limited, ("traefik-metrics", TRAEFIK), ("prometheus-metrics", GAUGES_ONLY))
        assert isinstance(source, WithGauges)
        assert source.gauges_of(release) == {"shop_pool_in_use": 7.0}  # and a silent Prometheus takes nothing from it
        with pytest.raises(TransientError, match="nobody knows how production's users fare"):
            source.scrape([release])


def test_of_several_that_know_a_gauge_the_last_one_counts() -> None:
    class Knows:
        def __init__(self, **gauges: float) -> None:
            self.gauges = gauges

        def gauges_of(self, _: Release) -> dict[str, float]:
            return self.gauges

    class Counts:
        def scrape(self, _: object) -> dict[str, Counters]:
            return {"v1": Counters(by_code={200: 1.0})}

        def gauges_of(self, _: Release) -> dict[str, float]:
            return {}

    source = WithGauges(Counts(), [Knows(pool=1.0, queue=5.0), Knows(pool=2.0)])
    assert source.gauges_of(a_release()) == {"pool": 2.0, "queue": 5.0}
    assert source.scrape([])["v1"].requests == 1


@pytest.mark.parametrize(
    ("old", "new"), [('gauge = "shop_pool_in_use"\n', ""), ('metric = "gauge"', 'metric = "cpu"')], ids=["no name", "another metric"]
)
def test_a_limit_that_names_no_gauge_is_refused(
    limited: Stage, edit_environment: Callable[[str, str, str], None], old: str, new: str
) -> None:
    edit_environment("production", old, new)
    with pytest.raises(InvalidSettings, match='expected the name of a gauge, and metric = "gauge"'):
        limited.house.environment("production")
