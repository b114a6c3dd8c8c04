"""Requests and latencies per release, as Traefik counted them."""

import logging
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from typing import Protocol, TypeVar

from prefect.blocks.core import Block
from prometheus_client.parser import text_string_to_metric_families
from pydantic import Field, PrivateAttr, field_validator

from blocks.traefik import traefik_service
from blocks.traefik_api import AdminUrls, without_logins
from delivery.errors import TransientError
from delivery.health import Counters
from delivery.ports import MetricSource
from delivery.release import Release

log = logging.getLogger("greenroom.metrics")

# A client that left before its answer: nobody's error.
CLIENT_LEFT = 499
_REQUESTS, _BUCKET = "traefik_service_requests_total", "traefik_service_request_duration_seconds_bucket"
_STARTED = "process_start_time_seconds"


T = TypeVar("T")
# A release's id and the name of one of its services.
Owner = tuple[str, str]


class GaugeSource(Protocol):
    def gauges_of(self, release: Release) -> Mapping[str, float]: ...


class TraefikMetrics(Block):
    """Reads the counters of one environment from Traefik's Prometheus endpoint, summed over its instances.

    Traefik keeps them over changes of its configuration and begins anew when it starts. What a process that is gone had counted by the
    last scrape stays in the sum, so that counters never go down while this object lives; what it counted after that is lost.
    """

    _block_type_slug = "traefik-metrics"
    _block_type_name = "Traefik metrics"

    admin_url: str = Field(description="Where Traefik answers /metrics, for instance http://127.0.0.1:8080.")
    environment: str = Field(description="Name of the environment, as in its file.")
    more_admin_urls: tuple[str, ...] = Field(
        default=(), description="Where further instances answer that share the entry points with the first."
    )

    @field_validator("admin_url", "more_admin_urls")
    @classmethod
    def _are_addresses(cls, given: str | tuple[str, ...]) -> str | tuple[str, ...]:
        return without_logins(given)

    # By process (its address, and when it started), release and service: what it had counted when it was last asked.
    _counted: dict[tuple[str, float | None], dict[Owner, Counters]] = PrivateAttr(default_factory=dict)

    def scrape(self, releases: Iterable[Release]) -> Mapping[str, Counters]:
        """Each release's counters by its id, summed over its web services (its parts) and Traefik's instances; a release that has had no
        request is absent. An instance that is down serves nobody and counts no more; one that is silent makes the whole unknown:
        `TransientError`.
        """
        owners = {
            f"{traefik_service(self.environment, service.name, release.id)}@file": (release.id, service.name)
            for release in releases
            for service in release.services
            if service.takes_requests
        }
        so = f"so nobody knows how {self.environment}'s users fare"
        for url, answer in AdminUrls((self.admin_url, *self.more_admin_urls)).ask("/metrics", so).items():
            try:
                self._counted.setdefault((url, _started(answer.text)), {}).update(count(answer.text, owners))
            except (ValueError, KeyError) as broken:
                raise TransientError(
                    f"Traefik's metrics cannot be read ({type(broken).__name__}), {so}.", next=f"look what answers at {url}/metrics."
                ) from None
        found: dict[str, list[Counters]] = {}
        for owner in owners.values():
            for counted in self._counted.values():
                if owner in counted:
                    release, service = owner
                    alone = counted[owner]
                    found.setdefault(release, []).append(replace(alone, parts={service: alone}))
        return {release: Counters.sum(counters) for release, counters in found.items()}

    def gauges_of(self, release: Release) -> Mapping[str, float]:  # noqa: ARG002
        """Traefik knows requests only."""
        return {}


class WithGauges:
    """One source's requests, with what others measure beside them. One that is silent takes nothing from the others."""

    def __init__(self, requests: MetricSource, gauges: Sequence[GaugeSource]) -> None:
        self._requests, self._gauges = requests, gauges

    def scrape(self, releases: Iterable[Release]) -> Mapping[str, Counters]:
        return self._requests.scrape(releases)

    def gauges_of(self, release: Release) -> Mapping[str, float]:
        found: dict[str, float] = {}
        for source in self._gauges:
            try:
                found |= source.gauges_of(release)
            except TransientError as silent:
                log.warning("Some gauges are not known: %s", silent)
        return found


def _started(exposition: str) -> float | None:
    """When the process that tells this started, in seconds since 1970; None when it does not say."""
    said = next((line for line in exposition.splitlines() if line.startswith(f"{_STARTED} ")), None)
    return float(said.split()[1]) if said else None


def count(exposition: str, owners: Mapping[str, T]) -> dict[T, Counters]:
    """Counters by owner, from Prometheus' text format; `owners` maps Traefik services to whom they are counted for. Raises `ValueError`
    for a text in another format.
    """
    codes: dict[T, dict[int, float]] = {}
    buckets: dict[T, dict[float, float]] = {}
    # Four fifths of the page are about other things, and parsing is what costs.
    wanted = "\n".join(line for line in exposition.splitlines() if line.startswith((f"{_REQUESTS}{{", f"{_BUCKET}{{")))
    for family in text_string_to_metric_families(f"{wanted}\n"):
        for sample in family.samples:
            owner, code = owners.get(sample.labels["service"]), int(sample.labels["code"])
            if owner is None or code == CLIENT_LEFT:
                continue
            if sample.name == _REQUESTS:
                by_code = codes.setdefault(owner, {})
                by_code[code] = by_code.get(code, 0.0) + sample.value
            else:
                by_bound, bound = buckets.setdefault(owner, {}), float(sample.labels["le"])
                by_bound[bound] = by_bound.get(bound, 0.0) + sample.value
    return {owner: Counters(by_code=codes[owner], buckets=buckets.get(owner, {})) for owner in codes}


_: type[MetricSource] = TraefikMetrics
__: type[MetricSource] = WithGauges
