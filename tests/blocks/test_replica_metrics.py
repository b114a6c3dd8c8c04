from dataclasses import replace

import pytest

from blocks.replica_metrics import CLIENT_LEFT, LARGEST_BYTES, ReplicaMetrics, own_counters, own_gauges
from delivery.application import Exposition, Service
from delivery.ports import Address
from tests.samples import a_release
from tests.tasks.small_server import serving

COUNTED = Exposition(requests="shop_requests_total", path="/numbers", status="code")
BARE = a_release()
RELEASE = replace(
    BARE,
    services=(Service("api", "web", ".", "Dockerfile", metrics=COUNTED), Service("web", "web", ".", "Dockerfile")),
    images={"api": BARE.images["api"], "web": BARE.images["api"]},
)
PAGE = """# TYPE shop_requests_total counter
shop_requests_total{code="200",route="/"} 3
shop_requests_total{code="503",route="/a"} 4
# TYPE shop_pool_in_use gauge
shop_pool_in_use{database="main"} 5
shop_pool_in_use{database="audit"} 2
# TYPE shop_pool_in_use_most gauge
shop_pool_in_use_most 9
shop_waiting NaN
"""


def asked(page: tuple[int, str], *names: str) -> tuple[object, object]:
    with serving({"/numbers": page}) as first, serving({"/numbers": (200, PAGE.replace(" 5", " 1"))}) as second:
        replicas = [Address("api", "api-0", first), Address("api", "api-1", second), Address("web", "web-0", first)]
        source = ReplicaMetrics(lambda _: replicas, frozenset(names))
        return source.requests(RELEASE), source.gauges_of(RELEASE)


def test_each_replica_tells_its_own_requests() -> None:
    requests, _ = asked((200, PAGE))
    told = own_counters(PAGE, "shop_requests_total", "code")
    assert told.by_code == {200: 3.0, 503: 4.0}
    assert requests == {"api": {"api-0": told, "api-1": told}}


def test_the_fullest_replica_speaks_for_its_release() -> None:
    _, gauges = asked((200, PAGE), "shop_pool_in_use", "shop_waiting", "shop_unheard_of")
    assert gauges == {"shop_pool_in_use": 7.0}


@pytest.mark.parametrize("page", [(503, ""), (0, ""), (200, "x" * (LARGEST_BYTES + 1)), (200, 'shop_pool_in_use{"\nshop_requests_total{"')])
def test_a_replica_that_does_not_tell_takes_nothing_from_the_others(page: tuple[int, str]) -> None:
    requests, gauges = asked(page, "shop_pool_in_use")
    assert gauges == {"shop_pool_in_use": 3.0}
    assert list(requests["api"]) == ["api-1"]  # type: ignore[index]


def test_answers_are_counted_by_code_over_all_other_labels() -> None:
    page = '# TYPE shop_requests_total counter\nshop_requests_total{code="200",route="/"} 3\nshop_requests_total{code="200",route="/a"} 4\n'
    page += f'shop_requests_total{{code="{CLIENT_LEFT}"}} 9\nshop_requests_total_created{{code="200"}} 1.7e9\nother{{code="500"}} 5\n'
    page += 'shop_requests_total{code="5xx"} 2\n'
    assert own_counters(page, "shop_requests_total", "code").by_code == {200: 7.0, 500: 2.0}


def test_a_page_without_codes_is_refused() -> None:
    with pytest.raises(ValueError, match="invalid literal"):
        own_counters('shop_requests_total{status="200"} 3\n', "shop_requests_total", "code")


def test_a_name_that_another_one_begins_with_is_not_it() -> None:
    assert own_gauges(PAGE, frozenset({"shop_pool"})) == {}
