"""Measuring how alike two halves of the live release are: each replica is asked for its own counters, look by look."""

import logging
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor

import httpx
from prometheus_client.parser import text_string_to_metric_families

from delivery.application import Exposition
from delivery.calibration import a_look, sides
from delivery.health import Counters
from delivery.noise import Halves
from delivery.ports import Address
from delivery.release import Release
from tasks.retry import ONCE, retried
from tasks.scene import Clock

log = logging.getLogger("greenroom.calibration")

TIMEOUT_SECONDS = 5.0
LARGEST_BYTES = 4_000_000
_SIDE_BY_SIDE = 8
CLIENT_LEFT = 499  # a client that left before its answer: nobody's error


def measurable(release: Release) -> tuple[str, ...]:
    """The services whose replicas tell their own requests, and that have two of them to compare."""
    return tuple(service.name for service in release.services if service.metrics and service.replicas > 1)


@retried(ONCE, name="compare halves of the live release", run_name="compare halves of the live release")
def compare_halves(
    release: Release,
    addresses: Callable[[], Sequence[Address]],
    *,
    look_seconds: float,
    looks: int,
    go_on: Callable[[], bool],
    clock: Clock,
) -> Mapping[str, tuple[Halves, ...]]:
    """Takes `looks` looks, `look_seconds` apart, at each measurable service; fewer when `go_on` says no on the way. A look at which a
    replica was silent is left out. Raises `DeliveryError` when the replicas cannot be found.
    """
    halves = {service: sides(_of(service, addresses())) for service in measurable(release)}
    found: dict[str, list[Halves]] = {service: [] for service in halves}
    with httpx.Client(timeout=TIMEOUT_SECONDS, trust_env=False) as client:
        before = _scrape(client, release, addresses())
        for _ in range(looks):
            clock.wait(look_seconds)
            if not go_on():
                break
            now = _scrape(client, release, addresses())
            for service, split in halves.items():
                if (look := a_look(split, before, now)) is not None:
                    found[service].append(look)
            before = now
    return {service: tuple(seen) for service, seen in found.items()}


def _of(service: str, addresses: Sequence[Address]) -> list[str]:
    return [address.replica for address in addresses if address.service == service]


def _scrape(client: httpx.Client, release: Release, addresses: Sequence[Address]) -> Mapping[str, Counters]:
    """Each measurable replica's counters by its name; one that does not tell them is absent."""
    told = {service.name: service.metrics for service in release.services}
    asked = [(address, exposition) for address in addresses if (exposition := told.get(address.service))]
    with ThreadPoolExecutor(_SIDE_BY_SIDE) as threads:
        answers = threads.map(lambda each: _ask(client, *each), asked)
        return {address.replica: counters for (address, _), counters in zip(asked, answers, strict=True) if counters is not None}


def _ask(client: httpx.Client, address: Address, exposition: Exposition) -> Counters | None:
    try:
        return own_counters(_page(client, f"{address.url}{exposition.path}"), exposition)
    except (httpx.HTTPError, ValueError) as broken:
        log.debug("%s did not tell its requests: %s", address.replica, broken)
        return None


def _page(client: httpx.Client, url: str) -> str:
    """Raises `ValueError` for one without end: whoever tells so much is not listened to."""
    with client.stream("GET", url) as answer:
        answer.raise_for_status()
        page = bytearray()
        for chunk in answer.iter_bytes():
            page += chunk
            if len(page) > LARGEST_BYTES:
                raise ValueError(f"more than {LARGEST_BYTES:,} bytes")
    return page.decode(errors="replace")


def own_counters(page: str, exposition: Exposition) -> Counters:
    """Answers by their code, from Prometheus' text format. Raises `ValueError` for a page in another format, or without such codes."""
    name = exposition.requests
    wanted = "\n".join(line for line in page.splitlines() if line.startswith(f"{name}{{"))
    codes: dict[int, float] = {}
    for family in text_string_to_metric_families(f"{wanted}\n"):
        for sample in family.samples:
            code = int(sample.labels.get(exposition.status, "").replace("x", "0"))  # some count by class: 5xx
            if code != CLIENT_LEFT:
                codes[code] = codes.get(code, 0.0) + sample.value
    return Counters(by_code=codes)
