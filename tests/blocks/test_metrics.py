import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import pytest

from blocks.metrics import TraefikMetrics, count
from delivery.errors import TransientError
from tests.samples import a_release

OWNERS = {"production.api.v1@file": "v1", "production.web.v1@file": "v1", "production.api.v2@file": "v2"}
PAGE = """# HELP traefik_service_requests_total How many HTTP requests processed on a service.
# TYPE traefik_service_requests_total counter
traefik_service_requests_total{code="200",method="GET",protocol="http",service="production.api.v1@file"} 90
traefik_service_requests_total{code="200",method="POST",protocol="http",service="production.api.v1@file"} 10
traefik_service_requests_total{code="200",method="GET",protocol="http",service="production.web.v1@file"} 5
traefik_service_requests_total{code="500",method="GET",protocol="http",service="production.api.v1@file"} 3
traefik_service_requests_total{code="499",method="GET",protocol="http",service="production.api.v1@file"} 7
traefik_service_requests_total{code="200",method="GET",protocol="http",service="staging.api.v1@file"} 1e+06
# TYPE traefik_service_request_duration_seconds histogram
traefik_service_request_duration_seconds_bucket{code="200",method="GET",protocol="http",service="production.api.v1@file",le="0.1"} 80
traefik_service_request_duration_seconds_bucket{code="200",method="GET",protocol="http",service="production.api.v1@file",le="+Inf"} 90
traefik_service_request_duration_seconds_bucket{code="200",method="GET",protocol="http",service="production.web.v1@file",le="0.1"} 1
traefik_service_request_duration_seconds_bucket{code="200",method="GET",protocol="http",service="production.web.v1@file",le="+Inf"} 5
traefik_service_request_duration_seconds_bucket{code="499",method="GET",protocol="http",service="production.api.v1@file",le="+Inf"} 7
traefik_service_request_duration_seconds_sum{code="200",method="GET",protocol="http",service="production.api.v1@file"} 9
"""


def test_requests_are_summed_over_a_releases_services_and_methods() -> None:
    assert count(PAGE, OWNERS)["v1"].by_code == {200: 105, 500: 3}


def test_a_client_that_left_early_is_nobodys_error() -> None:
    assert count(PAGE, OWNERS)["v1"].requests == 108
    assert count(PAGE, OWNERS)["v1"].buckets[float("inf")] == 95


def test_buckets_are_summed_per_bound() -> None:
    assert count(PAGE, OWNERS)["v1"].buckets == {0.1: 81, float("inf"): 95}


def test_a_release_that_had_no_request_is_absent() -> None:
    assert "v2" not in count(PAGE, OWNERS)


def test_a_traefik_that_does_not_answer_is_worth_another_try() -> None:
    with pytest.raises(TransientError, match="nobody knows how production's users fare"):
        TraefikMetrics(admin_url="http://127.0.0.1:9", environment="production").scrape([a_release()])


# ---- several instances, and instances that die


class Instance:
    """An address that answers /metrics as a Traefik does that started at `born` and has counted so many requests of production's api."""

    def __init__(self) -> None:
        instance = self
        self.born, self.counted, self.code = 100.0, 0, 200

        class Handler(BaseHTTPRequestHandler):
            def do_GET(self) -> None:
                service = f"production.api.{a_release().id}@file"
                body = f"""process_start_time_seconds {instance.born}
traefik_service_requests_total{{code="200",method="GET",protocol="http",service="{service}"}} {instance.counted}
traefik_service_request_duration_seconds_bucket{{code="200",method="GET",service="{service}",le="+Inf"}} {instance.counted}
""".encode()
                self.send_response(instance.code)
                self.send_header("Content-Length", str(len(body)))
                self.end_headers()
                self.wfile.write(body)

            def log_message(self, *_: object) -> None:
                return

        self._server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.url = f"http://127.0.0.1:{self._server.server_address[1]}"
        threading.Thread(target=self._server.serve_forever, args=(0.01,), daemon=True).start()

    def end(self) -> None:
        self._server.shutdown()
        self._server.server_close()


@pytest.fixture
def instances() -> Iterator[tuple[Instance, Instance]]:
    pair = Instance(), Instance()
    yield pair
    for one in pair:
        one.end()


def requests_in(source: TraefikMetrics) -> float:
    return source.scrape([a_release()])[a_release().id].requests


@pytest.fixture
def source(instances: tuple[Instance, Instance]) -> TraefikMetrics:
    return TraefikMetrics(admin_url=instances[0].url, more_admin_urls=(instances[1].url,), environment="production")


def test_instances_are_counted_together(instances: tuple[Instance, Instance], source: TraefikMetrics) -> None:
    instances[0].counted, instances[1].counted = 40, 2
    assert requests_in(source) == 42


def test_each_service_of_a_release_is_a_part_of_it(instances: tuple[Instance, Instance], source: TraefikMetrics) -> None:
    instances[0].counted, instances[1].counted = 40, 2
    found = source.scrape([a_release()])[a_release().id]
    assert {name: part.requests for name, part in found.parts.items()} == {"api": 42}
    before = found
    instances[1].counted = 5
    assert source.scrape([a_release()])[a_release().id].since(before).parts["api"].requests == 3


def test_what_a_dead_process_had_counted_stays(instances: tuple[Instance, Instance], source: TraefikMetrics) -> None:
    instances[0].counted, instances[1].counted = 40, 2
    requests_in(source)
    instances[0].born, instances[0].counted = 200.0, 50
    assert requests_in(source) == 40 + 50 + 2


def test_an_instance_that_is_down_is_remembered(instances: tuple[Instance, Instance], source: TraefikMetrics) -> None:
    instances[0].counted, instances[1].counted = 40, 2
    requests_in(source)
    instances[0].end()
    instances[1].counted = 3
    assert requests_in(source) == 43


def test_counters_never_go_down_when_one_traefik_starts_again(instances: tuple[Instance, Instance]) -> None:
    alone = TraefikMetrics(admin_url=instances[0].url, environment="production")
    instances[0].counted = 40
    before = alone.scrape([a_release()])[a_release().id]
    instances[0].born, instances[0].counted = 200.0, 5
    assert alone.scrape([a_release()])[a_release().id].since(before).by_code == {200: 5}


def test_an_instance_that_answers_something_else_makes_the_whole_unknown(
    instances: tuple[Instance, Instance], source: TraefikMetrics
) -> None:
    instances[0].counted, instances[1].code = 40, 500
    with pytest.raises(TransientError, match="nobody knows how production's users fare"):
        source.scrape([a_release()])
