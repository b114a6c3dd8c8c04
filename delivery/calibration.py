"""How noisy the live release is beside itself (A/A): looks at two halves of a service's replicas, and what they tell the judge."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta

from delivery.application import STRICT
from delivery.counters import grown
from delivery.health import Counters
from delivery.noise import QUIET, Halves, Noise, measured_noise

NEWEST = timedelta(days=30)  # traffic changes; what is older says little of today
MOST_LOOKS = 480  # of the newest ones that are weighed together


@dataclass(frozen=True)
class Calibration:
    """Looks of `look_seconds` at two halves of one service's replicas, taken one after another up to `at`."""

    __pydantic_config__ = STRICT

    environment: str
    service: str
    release: str
    at: datetime
    look_seconds: float
    halves: tuple[Halves, ...]


def sides(replicas: Iterable[str]) -> tuple[tuple[str, ...], tuple[str, ...]]:
    """Every other replica by name."""
    names = sorted(replicas)
    return tuple(names[::2]), tuple(names[1::2])


def a_look(halves: tuple[tuple[str, ...], tuple[str, ...]], before: Mapping[str, Counters], now: Mapping[str, Counters]) -> Halves | None:
    """What both halves answered between two scrapes of the replicas; None where a replica was silent or began anew, since the halves then
    speak of different times, and where one half answered nobody.
    """
    names = [name for half in halves for name in half]
    if any(name not in before or name not in now or now[name].requests < before[name].requests for name in names):
        return None
    first, second = (grown({name: before[name] for name in half}, {name: now[name] for name in half})[0] for half in halves)
    if not first.requests or not second.requests:
        return None
    return Halves(n_1=round(first.requests), n_2=round(second.requests), x_1=round(first.errors), x_2=round(second.errors))


def known_noise(
    calibrations: Sequence[Calibration], services: Sequence[str], *, look_seconds: float, usual: float
) -> tuple[Noise, tuple[Halves, ...]]:
    """The noise that a judge of these services, and of looks of this length, has to expect, and the looks that say so; quiet, and none,
    where they say nothing. `calibrations` come newest first; `usual` is the noise of the ratio that is assumed where it is not measured.

    The noisiest service speaks for all: the whole never varies more than the noisiest of its parts. A ratio that is quieter than usual
    counts only when every service was measured.
    """
    looks = {service: _newest_looks(calibrations, service, look_seconds) for service in services}
    measured = {service: measured_noise(halves) for service, halves in looks.items()}
    noisiest = max(measured, key=lambda service: (measured[service].clump, measured[service].ratio or 0.0), default=None)
    if noisiest is None or (noise := measured[noisiest]) == QUIET:
        return QUIET, ()
    all_known = all(one.ratio is not None for one in measured.values())
    if noise.ratio is not None and noise.ratio <= usual and not all_known:
        return QUIET, ()
    return noise, looks[noisiest]


def _newest_looks(calibrations: Sequence[Calibration], service: str, look_seconds: float) -> tuple[Halves, ...]:
    """Noise belongs to a length of look: the ratio of a minute is calmer than that of a second."""
    ours = (one for one in calibrations if one.service == service and abs(one.look_seconds - look_seconds) < 0.5)
    return tuple(look for one in ours for look in reversed(one.halves))[:MOST_LOOKS]
