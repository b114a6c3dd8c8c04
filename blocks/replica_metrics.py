"""What each replica tells of itself, in Prometheus' text format, at its private address."""

import logging
import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass

import httpx
from prometheus_client import Metric
from prometheus_client.parser import text_string_to_metric_families

from blocks.http import shared_client
from delivery.application import Exposition
from delivery.health import Counters
from delivery.ports import Address
from delivery.release import Release

log = logging.getLogger("greenroom.metrics")

TIMEOUT_SECONDS = 5.0
LARGEST_BYTES = 4_000_000
CLIENT_LEFT = 499  # a client that left before its answer: nobody's error
_SIDE_BY_SIDE = 8


@dataclass(frozen=True)
class ReplicaMetrics:
    """Asks the replicas that `addresses` lists; one that does not answer is absent, and so is what it alone would tell."""

    addresses: Callable[[Release], Sequence[Address]]
    wanted: frozenset[str] = frozenset()

    def requests(self, release: Release) -> Mapping[str, Mapping[str, Counters]]:
        """Each replica's answers so far, by service and replica, where the service says what counts them."""
        found: dict[str, dict[str, Counters]] = {}
        for address, exposition, page in self._pages(release):
            if exposition.requests:
                try:
                    found.setdefault(address.service, {})[address.replica] = own_counters(page, exposition.requests, exposition.status)
                except ValueError as broken:
                    log.debug("%s did not tell its requests: %s", address.replica, broken)
        return found

    def gauges_of(self, release: Release) -> Mapping[str, float]:
        """Each wanted gauge as the fullest replica has it now, summed over its labels."""
        found: dict[str, float] = {}
        for address, _, page in self._pages(release):
            try:
                for name, value in own_gauges(page, self.wanted).items():
                    found[name] = max(value, found.get(name, value))
            except ValueError as broken:
                log.debug("%s did not tell its gauges: %s", address.replica, broken)
        return found

    def _pages(self, release: Release) -> list[tuple[Address, Exposition, str]]:
        told = {service.name: service.metrics for service in release.services}
        asked = [(address, exposition) for address in self.addresses(release) if (exposition := told.get(address.service))]
        with ThreadPoolExecutor(_SIDE_BY_SIDE) as threads:
            pages = list(threads.map(lambda each: _page(f"{each[0].url}{each[1].path}"), asked))
        return [(address, exposition, page) for (address, exposition), page in zip(asked, pages, strict=True) if page is not None]


def _page(url: str) -> str | None:
    """None when it cannot be had; nobody listens to a page without end."""
    try:
        with shared_client().stream("GET", url, timeout=TIMEOUT_SECONDS) as answer:
            answer.raise_for_status()
            page = bytearray()
            for chunk in answer.iter_bytes():
                page += chunk
                if len(page) > LARGEST_BYTES:
                    return None
        return page.decode(errors="replace")
    except httpx.HTTPError as broken:
        log.debug("A replica did not tell its metrics: %s", type(broken).__name__)
        return None


def own_counters(page: str, requests: str, status: str) -> Counters:
    """Answers by their code. Raises `ValueError` for a page in another format, or without such codes."""
    codes: dict[int, float] = {}
    for family in _families(page, frozenset({requests})):
        for sample in family.samples:
            code = int(sample.labels.get(status, "").replace("x", "0"))  # some count by class: 5xx
            if code != CLIENT_LEFT:
                codes[code] = codes.get(code, 0.0) + sample.value
    return Counters(by_code=codes)


def own_gauges(page: str, names: frozenset[str]) -> dict[str, float]:
    """The named values, each summed over its labels; one that is not a number is not known."""
    found: dict[str, float] = {}
    for family in _families(page, names):
        for sample in family.samples:
            found[sample.name] = found.get(sample.name, 0.0) + sample.value
    return {name: value for name, value in found.items() if math.isfinite(value)}


def _families(page: str, names: frozenset[str]) -> Iterator[Metric]:
    """Only the wanted lines: parsing is what costs."""
    starts = tuple(f"{name}{end}" for name in names for end in ("{", " "))
    wanted = "\n".join(line for line in page.splitlines() if line.startswith(starts))
    return iter(text_string_to_metric_families(f"{wanted}\n"))
