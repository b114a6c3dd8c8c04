from collections.abc import Sequence
from datetime import UTC, datetime

import pytest

from delivery.calibration import MOST_LOOKS, Calibration, a_look, known_noise, sides
from delivery.health import Counters
from delivery.noise import QUIET, Halves, Noise, measured_noise

AT = datetime(2026, 7, 1, tzinfo=UTC)
CLUMPY = tuple(Halves(1000, 1000, *((20, 0) if number % 2 else (0, 20))) for number in range(30))
EVEN = tuple(Halves(1000, 1000, 30, 30) for _ in range(80))
WILD = tuple(Halves(200_000, 200_000, 100 + (number % 7) * 2, 100 + (number % 5) * 2) for number in range(80))
UNKNOWN = (Halves(1000, 1000, 1, 0),)


def kept(service: str, halves: Sequence[Halves], *, look_seconds: float = 15.0) -> Calibration:
    return Calibration("production", service, "v1.0.0-aaaaaaaa", AT, look_seconds, tuple(halves))


def known(*calibrations: Calibration, services: Sequence[str] = ("api",), usual: float = 0.15) -> Noise:
    return known_noise(calibrations, services, look_seconds=15.0, usual=usual)[0]


def counted(requests: int, errors: int = 0) -> Counters:
    return Counters(by_code={200: float(requests - errors), 503: float(errors)})


def test_every_other_replica_is_of_one_half() -> None:
    assert sides(["api-2", "api-0", "api-1"]) == (("api-0", "api-2"), ("api-1",))


def test_a_look_sums_what_the_replicas_of_each_half_grew_by() -> None:
    before = {"api-0": counted(100), "api-1": counted(50, 5), "api-2": counted(10)}
    now = {"api-0": counted(110, 1), "api-1": counted(80, 7), "api-2": counted(15)}
    assert a_look(sides(before), before, now) == Halves(n_1=15, n_2=30, x_1=1, x_2=2)


@pytest.mark.parametrize(
    ("before", "now"),
    [
        ({"api-0": counted(9)}, {"api-0": counted(19), "api-1": counted(19)}),
        ({"api-0": counted(9), "api-1": counted(9)}, {"api-0": counted(19)}),
        ({"api-0": counted(9), "api-1": counted(9)}, {"api-0": counted(19), "api-1": counted(8)}),
        ({"api-0": counted(9), "api-1": counted(9)}, {"api-0": counted(19), "api-1": counted(9)}),
    ],
    ids=["silent before", "silent now", "began anew", "answered nobody"],
)
def test_a_look_that_speaks_of_different_times_does_not_count(before: dict[str, Counters], now: dict[str, Counters]) -> None:
    assert a_look((("api-0",), ("api-1",)), before, now) is None


def test_errors_in_clumps_are_known_from_one_service_for_all() -> None:
    noise, looks = known_noise([kept("api", CLUMPY)], ["web", "api"], look_seconds=15.0, usual=0.15)
    assert noise == measured_noise(CLUMPY)
    assert noise.clump > 20
    assert sorted(looks, key=repr) == sorted(CLUMPY, key=repr)


def test_the_noisiest_service_speaks_for_all() -> None:
    quieter = tuple(Halves(1000, 1000, *((8, 2) if number % 2 else (2, 8))) for number in range(30))
    assert known(kept("web", quieter), kept("api", CLUMPY), services=("web", "api")) == measured_noise(CLUMPY)
    assert measured_noise(quieter).clump < measured_noise(CLUMPY).clump


def test_a_ratio_quieter_than_usual_counts_only_when_every_service_was_measured() -> None:
    measured = measured_noise(EVEN)
    assert measured.ratio is not None
    assert measured.ratio < 0.15
    assert known(kept("api", EVEN)) == measured
    assert known(kept("api", EVEN), services=("api", "web")) == QUIET
    assert known(kept("api", EVEN), kept("web", UNKNOWN), services=("api", "web")) == QUIET


def test_a_ratio_noisier_than_usual_counts_at_once() -> None:
    measured = measured_noise(WILD)
    assert measured.ratio is not None
    assert known(kept("api", WILD), services=("api", "web"), usual=measured.ratio / 2) == measured


def test_noise_belongs_to_a_length_of_look_and_to_services_that_are_there() -> None:
    assert known(kept("api", CLUMPY, look_seconds=60.0)) == QUIET
    assert known(kept("shop", CLUMPY)) == QUIET
    assert known() == QUIET


def test_only_the_newest_looks_are_weighed() -> None:
    old, new = kept("api", CLUMPY), kept("api", [Halves(1000, 1000, 30, 30)] * MOST_LOOKS)
    assert known(new, old).clump == 1
    assert known(old, new).clump > 1
