"""Measuring how alike two halves of the live release are, look by look."""

from collections.abc import Callable, Mapping

from delivery.calibration import a_look, sides
from delivery.health import Counters
from delivery.noise import Halves
from delivery.release import Release
from tasks.retry import ONCE, retried
from tasks.scene import Clock

Scrape = Callable[[], Mapping[str, Mapping[str, Counters]]]


def measurable(release: Release) -> tuple[str, ...]:
    """The services whose replicas tell their own requests, and that have two of them to compare."""
    return tuple(service.name for service in release.services if service.metrics and service.metrics.requests and service.replicas > 1)


@retried(ONCE, name="compare halves of the live release", run_name="compare halves of the live release")
def compare_halves(
    scrape: Scrape, *, look_seconds: float, looks: int, go_on: Callable[[], bool], clock: Clock
) -> Mapping[str, tuple[Halves, ...]]:
    """Takes `looks` looks, `look_seconds` apart, at each service that `scrape` tells by its replicas; fewer when `go_on` says no. A look
    at which a replica was silent is left out.
    """
    before = scrape()
    halves = {service: sides(replicas) for service, replicas in before.items()}
    found: dict[str, list[Halves]] = {service: [] for service in halves}
    for _ in range(looks):
        clock.wait(look_seconds)
        if not go_on():
            break
        now = scrape()
        for service, split in halves.items():
            if (look := a_look(split, before.get(service, {}), now.get(service, {}))) is not None:
                found[service].append(look)
        before = now
    return {service: tuple(seen) for service, seen in found.items()}
