"""Against Debian's own Prometheus, which scrapes a page that Traefik could have written."""

import re
import shutil
import subprocess
import threading
import tomllib
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path

import httpx
import pytest
from pydantic import SecretStr

from blocks.metrics import TraefikMetrics
from blocks.prometheus import PrometheusMetrics
from delivery.errors import InvalidSettings, TransientError
from delivery.release import Release
from deployments.processes import free_ports, wait_until
from tests.samples import a_release
from tests.tasks.small_server import serving

BLUE, GREEN, UNKNOWN = a_release("1.1.0"), a_release("1.2.0"), a_release("1.3.0")


def documented() -> dict[str, str]:
    """The block as docs/operating.md shows it."""
    text = (Path(__file__).resolve().parents[2] / "docs" / "operating.md").read_text()
    (shown,) = (block for block in re.findall(r"```toml\n(.*?)```", text, re.DOTALL) if "[prometheus-metrics.production]" in block)
    fields: dict[str, str] = tomllib.loads(shown)["prometheus-metrics"]["production"]
    return fields


def counted(release: Release, *, well: int, sick: int) -> str:
    service = f"production.api.{release.id}@file"
    seconds = "traefik_service_request_duration_seconds_bucket"
    return f"""traefik_service_requests_total{{code="200",method="GET",service="{service}"}} {well}
traefik_service_requests_total{{code="500",method="GET",service="{service}"}} {sick}
{seconds}{{code="200",method="GET",service="{service}",le="0.1"}} {well - 1}
{seconds}{{code="200",method="GET",service="{service}",le="+Inf"}} {well + sick}
"""


PAGE = counted(BLUE, well=90, sick=1) + counted(GREEN, well=10, sick=3)
PAGE += f'pool_in_use{{release="{BLUE.id}"}} 4\npool_in_use{{release="{GREEN.id}"}} 7\ncelery_queue_length{{queue_name="shop"}} 12\n'


@contextmanager
def prometheus(folder: Path, scraped: str) -> Iterator[str]:
    """The address of a server that has scraped this one once."""
    port = free_ports(["prometheus"])["prometheus"]
    (folder / "prometheus.yml").write_text(
        f"global: {{scrape_interval: 1s}}\nscrape_configs: [{{job_name: front, static_configs: [{{targets: ['{scraped}']}}]}}]\n"
    )
    settings = [f"--config.file={folder}/prometheus.yml", f"--storage.tsdb.path={folder}/data", f"--web.listen-address=127.0.0.1:{port}"]
    with (folder / "log").open("wb") as lines:
        server = subprocess.Popen([str(shutil.which("prometheus")), *settings], stdout=lines, stderr=lines, stdin=subprocess.DEVNULL)
    url = f"http://127.0.0.1:{port}"

    def has_scraped() -> bool:
        try:
            found = httpx.get(f"{url}/api/v1/query", params={"query": "traefik_service_requests_total"}, trust_env=False).json()
        except (httpx.HTTPError, ValueError):
            return False
        return bool(found.get("data", {}).get("result"))

    try:
        wait_until(has_scraped, what="Prometheus has scraped", seconds=60, explain=(folder / "log").read_text)
        yield url
    finally:
        server.kill()
        server.wait()


@pytest.mark.prometheus
def test_a_real_server_tells_what_traefik_tells_itself(tmp_path: Path) -> None:
    with serving({"/metrics": (200, PAGE)}) as traefik, prometheus(tmp_path, traefik.removeprefix("http://")) as url:
        gauges = {
            "pool": "pool_in_use",
            "queue": "celery_queue_length",
            "nothing": "unheard_of",
            "scalar": "scalar(vector(3))",
            "nan": "0/0",
        }
        requests, buckets = documented()["requests"], documented()["buckets"]
        source = PrometheusMetrics(url=url, requests=requests, buckets=buckets, gauges=gauges)
        found = source.scrape([BLUE, GREEN, UNKNOWN])
        direct = TraefikMetrics(admin_url=traefik, environment="production").scrape([BLUE, GREEN, UNKNOWN])
        assert set(found) == set(direct) == {BLUE.id, GREEN.id}
        assert found[GREEN.id].by_code == direct[GREEN.id].by_code == {200: 10.0, 500: 3.0}
        assert found[GREEN.id].buckets == direct[GREEN.id].buckets == {0.1: 9.0, float("inf"): 13.0}
        assert source.gauges_of(GREEN) == {"pool": 7.0, "queue": 12.0, "scalar": 3.0}
        assert source.gauges_of(BLUE)["pool"] == 4.0

        wrong = PrometheusMetrics(url=url, requests="sum by (", buckets=buckets)
        with pytest.raises(TransientError, match="answered 400"):
            wrong.scrape([GREEN])
        without_codes = PrometheusMetrics(url=url, requests=f"sum by (release) ({requests})", buckets=buckets)
        with pytest.raises(TransientError, match="the label code as None"):
            without_codes.scrape([GREEN])


def test_services_are_parts_of_their_release() -> None:
    sample = '{{"metric": {{"release": "{0}", "service": "{1}", "{2}": "{3}"}}, "value": [1, "{4}"]}}'
    requests = ",".join(sample.format(GREEN.id, service, "code", 200, count) for service, count in (("api", 5), ("web", 7)))
    buckets = ",".join(sample.format(GREEN.id, service, "le", "+Inf", count) for service, count in (("api", 5), ("web", 7)))
    answers = iter(requests for requests in (requests, buckets))

    def answer(_: str) -> tuple[int, str]:
        return 200, f'{{"data": {{"resultType": "vector", "result": [{next(answers)}]}}}}'

    with serving(answer) as url:
        found = PrometheusMetrics(url=url, requests="a", buckets="b").scrape([GREEN])[GREEN.id]
    assert (found.requests, found.buckets) == (12.0, {float("inf"): 12.0})
    assert {name: part.requests for name, part in found.parts.items()} == {"api": 5.0, "web": 7.0}


def test_a_server_that_does_not_answer_is_worth_another_try_and_its_token_is_not_told() -> None:
    source = PrometheusMetrics(url="http://127.0.0.1:9", requests="a", buckets="b", gauges={"pool": "c"}, token=SecretStr("hush"))
    for ask in (lambda: source.scrape([GREEN]), lambda: source.gauges_of(GREEN)):
        with pytest.raises(TransientError, match="so nobody knows how users fare") as told:
            ask()
        assert "hush" not in str(told.value)


def test_a_token_is_sent() -> None:
    seen = []

    class Guarded(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            seen.append(self.headers["Authorization"])
            self.send_error(401)

        def log_message(self, *_: object) -> None:
            pass

    server = HTTPServer(("127.0.0.1", 0), Guarded)
    threading.Thread(target=server.handle_request, daemon=True).start()
    source = PrometheusMetrics(url=f"http://127.0.0.1:{server.server_port}", gauges={"pool": "c"}, token=SecretStr("hush"))
    with pytest.raises(TransientError, match="answered 401"):
        source.gauges_of(GREEN)
    server.server_close()
    assert seen == ["Bearer hush"]


@pytest.mark.parametrize("fields", [{}, {"requests": "a"}, {"buckets": "b", "gauges": {"pool": "c"}}])
def test_a_block_that_could_tell_nothing_is_refused(fields: dict[str, object]) -> None:
    with pytest.raises(InvalidSettings, match="expected"):
        PrometheusMetrics(url="http://127.0.0.1:9", **fields)
