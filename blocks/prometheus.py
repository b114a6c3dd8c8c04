"""Requests, latencies and gauges from a Prometheus server, by queries that the installation writes."""

import logging
import math
from collections.abc import Iterable, Iterator, Mapping
from typing import Any

import httpx
from prefect.blocks.core import Block
from pydantic import Field, SecretStr, field_validator, model_validator

from blocks.http import shared_client
from delivery.addresses import why_not
from delivery.errors import InvalidSettings, TransientError
from delivery.health import Counters
from delivery.ports import MetricSource
from delivery.release import Release

log = logging.getLogger("greenroom.metrics")

ALONE = ""  # the part of a release whose counters tell no service


class PrometheusMetrics(Block):
    """Asks one Prometheus server about one environment, with queries that are evaluated now.

    What a query finds is as old as the last scrape of Prometheus, five minutes at most: let it scrape at least as often as the
    environment's watch looks.
    """

    _block_type_slug = "prometheus-metrics"
    _block_type_name = "Prometheus metrics"

    url: str = Field(description="Where Prometheus answers, for instance http://127.0.0.1:9090.")
    requests: str | None = Field(
        default=None, description="Counter of answers since ever, by the labels release, code and (for parts) service. Empty: gauges only."
    )
    buckets: str | None = Field(default=None, description="Their latencies in seconds, by the labels release, le and (for parts) service.")
    gauges: dict[str, str] = Field(
        default_factory=dict, description="Queries by the name that a limit calls them; by the label release, or one for all."
    )
    token: SecretStr | None = Field(default=None, description="Bearer token, where the server asks for one.")
    timeout_seconds: float = Field(default=5.0, gt=0, description="How long one answer may take.")

    @field_validator("url")
    @classmethod
    def _is_an_address(cls, address: str) -> str:
        if why := why_not(address, secret=False):
            raise ValueError(why)
        return address

    @model_validator(mode="after")
    def _tells_something(self) -> "PrometheusMetrics":
        if (self.requests is None) != (self.buckets is None):
            raise InvalidSettings("Got one of requests and buckets, expected both or neither.", next="correct the block.")
        if self.requests is None and not self.gauges:
            raise InvalidSettings("Got neither requests nor gauges, expected one of them.", next="correct the block.")
        return self

    def scrape(self, releases: Iterable[Release]) -> Mapping[str, Counters]:
        """Each release's counters by its id; one that Prometheus has not heard of is absent. Raises `TransientError`."""
        ids = {release.id for release in releases}
        codes: dict[tuple[str, str], dict[int, float]] = {}
        bounds: dict[tuple[str, str], dict[float, float]] = {}
        for labels, value in self._ask(self.requests or ""):
            if labels.get("release") in ids:
                codes.setdefault(_owner(labels), {})[self._number(labels, "code", int)] = value
        for labels, value in self._ask(self.buckets or ""):
            if labels.get("release") in ids:
                bounds.setdefault(_owner(labels), {})[self._number(labels, "le", float)] = value
        found: dict[str, list[Counters]] = {}
        for (release, service), by_code in codes.items():
            alone = Counters(by_code=by_code, buckets=bounds.get((release, service), {}))
            parts = {} if service == ALONE else {service: alone}
            found.setdefault(release, []).append(Counters(alone.by_code, alone.buckets, parts))
        return {release: Counters.sum(counters) for release, counters in found.items()}

    def gauges_of(self, release: Release) -> Mapping[str, float]:
        """The highest that each query finds for this release, or for all; what finds nothing is absent. Raises `TransientError`."""
        found: dict[str, float] = {}
        for name, query in self.gauges.items():
            values = [value for labels, value in self._ask(query) if labels.get("release", release.id) == release.id]
            if known := [value for value in values if math.isfinite(value)]:
                found[name] = max(known)
        return found

    def _ask(self, query: str) -> Iterator[tuple[Mapping[str, str], float]]:
        headers = {"Authorization": f"Bearer {self.token.get_secret_value()}"} if self.token else {}
        try:
            answer = shared_client().get(
                f"{self.url.rstrip('/')}/api/v1/query", params={"query": query}, headers=headers, timeout=self.timeout_seconds
            )
            document: Any = answer.raise_for_status().json()
            result = document["data"]["result"]
            # A scalar is one pair, a vector a list of samples with labels.
            samples = [{"metric": {}, "value": result}] if document["data"]["resultType"] == "scalar" else result
            yield from [(sample["metric"], float(sample["value"][1])) for sample in samples]
        except (httpx.HTTPError, ValueError, LookupError, TypeError) as broken:
            said = f"answered {broken.response.status_code}" if isinstance(broken, httpx.HTTPStatusError) else type(broken).__name__
            raise TransientError(
                f"Prometheus did not answer {query[:80]!r} ({said}), so nobody knows how users fare.",
                next="look whether it runs, and try the query in its own page.",
            ) from None

    @staticmethod
    def _number(labels: Mapping[str, str], name: str, kind: type[Any]) -> Any:
        try:
            return kind(labels[name])
        except (LookupError, ValueError):
            raise TransientError(
                f"Prometheus tells the label {name} as {labels.get(name)!r}, expected a number.", next="correct the block's queries."
            ) from None


def _owner(labels: Mapping[str, str]) -> tuple[str, str]:
    return labels["release"], labels.get("service", ALONE)


_: type[MetricSource] = PrometheusMetrics
