import threading
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field, replace

from prometheus_client import CollectorRegistry, Counter, generate_latest

from blocks.replica_metrics import ReplicaMetrics
from delivery.application import Exposition
from delivery.noise import Halves
from delivery.ports import Address
from tasks.calibration import compare_halves, measurable
from tests.samples import a_release
from tests.simulated_target import VirtualClock
from tests.tasks.small_server import serving

TOLD = Exposition(requests="shop_requests_total", path="/numbers", status="code")
BARE = a_release()
RELEASE = a_release(services=(replace(BARE.services[0], replicas=2, metrics=TOLD), BARE.services[1]))


@dataclass
class Replica:
    """One process with a counter of its own, told as Prometheus' client tells it."""

    registry: CollectorRegistry = field(default_factory=CollectorRegistry)
    silent: bool = False

    def __post_init__(self) -> None:
        self.counter = Counter("shop_requests_total", "Answers", ["route", "code"], registry=self.registry)

    def answers(self, requests: int, errors: int) -> None:
        self.counter.labels("/", "200").inc(requests - errors)
        self.counter.labels("/list", "503").inc(errors)

    def page(self, path: str) -> tuple[int, str]:
        return (503, "") if self.silent or path != "/numbers" else (200, generate_latest(self.registry).decode())


@contextmanager
def two_replicas() -> Iterator[tuple[list[Replica], list[Address]]]:
    replicas = [Replica(), Replica()]
    with ExitStack() as served:
        urls = [served.enter_context(serving(replica.page)) for replica in replicas]
        yield replicas, [Address("api", f"api-{number}", url) for number, url in enumerate(urls)]


def compared(addresses: list[Address], clock: VirtualClock, *, looks: int, stop: threading.Event | None = None) -> tuple[Halves, ...]:
    found = compare_halves(
        lambda: ReplicaMetrics(lambda _: addresses).requests(RELEASE),
        look_seconds=15,
        looks=looks,
        go_on=lambda: not (stop and stop.is_set()),
        clock=clock,
    )
    assert set(found) == {"api"}
    return found["api"]


def test_each_look_is_what_both_halves_counted_since_the_one_before() -> None:
    clock = VirtualClock()
    with two_replicas() as (replicas, addresses):
        replicas[0].answers(1000, 400)  # long ago
        clock.at(3, lambda: replicas[0].answers(10, 1))
        clock.at(4, lambda: replicas[1].answers(20, 0))
        clock.at(20, lambda: [replica.answers(5, 5) for replica in replicas])
        assert compared(addresses, clock, looks=2) == (Halves(10, 20, 1, 0), Halves(5, 5, 5, 5))
    assert clock.now() == 30


def test_a_silent_replica_costs_the_looks_it_was_silent_in() -> None:
    clock = VirtualClock()

    def busy() -> None:
        for replica in replicas:
            replica.answers(10, 1)

    with two_replicas() as (replicas, addresses):
        for second in (1, 16, 31, 46):
            clock.at(second, busy)
        clock.at(20, lambda: setattr(replicas[1], "silent", True))
        clock.at(40, lambda: setattr(replicas[1], "silent", False))
        assert compared(addresses, clock, looks=4) == (Halves(10, 10, 1, 1), Halves(10, 10, 1, 1))


def test_a_rollout_that_begins_ends_the_measurement_and_its_look_is_not_counted() -> None:
    clock, began = VirtualClock(), threading.Event()
    with two_replicas() as (replicas, addresses):
        for second in (1, 16):
            clock.at(second, lambda: [replica.answers(10, 1) for replica in replicas])
        clock.at(20, began.set)
        assert compared(addresses, clock, looks=20, stop=began) == (Halves(10, 10, 1, 1),)
    assert clock.now() == 30


def test_only_services_with_two_replicas_that_tell_their_requests_can_be_measured() -> None:
    alone = replace(RELEASE.services[0], replicas=1)
    assert measurable(RELEASE) == ("api",)
    assert measurable(a_release()) == ()
    assert measurable(a_release(services=(alone,))) == ()
    assert measurable(a_release(services=(replace(RELEASE.services[0], metrics=Exposition()),))) == ()
