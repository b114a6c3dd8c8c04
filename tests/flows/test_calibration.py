"""The measurement as the schedule runs it: kept in the journal, and known to the judge of the next rollout."""

import itertools
from collections.abc import Callable, Iterator
from dataclasses import replace

import pytest

from delivery.application import Exposition
from delivery.calibration import NEWEST
from delivery.errors import DeliveryError
from delivery.plan import plan_rollout
from delivery.ports import Address
from delivery.release import Release
from flows.calibration import calibrate
from flows.rollout import means_of
from tests.flows.conftest import Stage
from tests.samples import a_release
from tests.simulated_target import VirtualClock
from tests.tasks.small_server import serving
from tests.tasks.test_calibration import Replica

TOLD = Exposition(requests="shop_requests_total", path="/numbers", status="code")
JUDGED = "watch_seconds = 60\n"


@pytest.fixture
def live(stage: Stage, edit_environment: Callable[[str, str, str], None]) -> Iterator[Release]:
    """Production runs a release of two replicas whose errors come in clumps: one of them, then the other, has all of a look's."""
    release = a_release("1.0.0", load=None, smoke=())
    release = replace(release, services=(replace(release.services[0], metrics=TOLD), release.services[1]))
    stage.house.store.save_release(release)
    stage.bring(release, "staging")
    stage.bring(release, "production")
    edit_environment("production", "watch_seconds = 0\n", JUDGED)
    replicas = [Replica(), Replica()]

    def page(number: int) -> Callable[[str], tuple[int, str]]:
        asked = itertools.count()

        def answer(path: str) -> tuple[int, str]:
            replicas[number].answers(1000, 20 if next(asked) % 2 == number else 0)
            return replicas[number].page(path)

        return answer

    with serving(page(0)) as first, serving(page(1)) as second:
        stage.production.urls[release.id] = [Address("api", "api-0", first), Address("api", "api-1", second)]
        yield release


def test_what_is_measured_is_known_to_the_next_rollouts_judge(stage: Stage, live: Release) -> None:
    said = calibrate(stage.house, None, looks=20, clock=VirtualClock())
    assert said.startswith("Production: 20 looks of 15 s at two halves are known; errors come in clumps, and weigh ")
    [kept] = means_of(stage.house, stage.house.environment("production")).calibrations
    assert (kept.environment, kept.service, kept.release, len(kept.halves)) == ("production", "api", live.id, 20)
    calibrate(stage.house, "production", looks=5, clock=VirtualClock())
    assert [len(one.halves) for one in stage.house.store.calibrations("production", newest=NEWEST)] == [5, 20]


def test_a_rollout_that_begins_ends_it_and_what_was_seen_is_kept(stage: Stage, live: Release) -> None:
    clock, store = VirtualClock(), stage.house.store
    green = stage.published("1.1.0")

    def begin() -> None:
        plan = plan_rollout(green, stage.house.environment("production"), capabilities=stage.production.capabilities, blue=live)
        store.open_rollout(store.acquire("production", holder="a test", purpose="rollout", ttl=NEWEST), plan, by="a test")

    clock.at(40, begin)
    assert calibrate(stage.house, "production", looks=20, clock=clock).startswith("Production: 2 looks of 15 s")
    assert clock.now() == 45
    assert calibrate(stage.house, "production", looks=20, clock=clock) == "Production is not measured while a rollout is under way."


@pytest.mark.usefixtures("live")
def test_replicas_that_do_not_tell_are_said_and_nothing_is_kept(stage: Stage) -> None:
    stage.production.urls.clear()
    said = calibrate(stage.house, "production", looks=2, clock=VirtualClock())
    assert said == "Production could not be measured: its replicas did not tell their requests, or had none."
    assert stage.house.store.calibrations("production", newest=NEWEST) == []


def test_what_cannot_be_measured_is_said(stage: Stage, edit_environment: Callable[[str, str, str], None]) -> None:
    assert calibrate(stage.house, None, looks=2) == "No environment compares two versions."
    edit_environment("production", "watch_seconds = 0\n", JUDGED)
    assert calibrate(stage.house, None, looks=2) == "Production has nothing live yet."
    stage.bring(stage.on_staging("1.0.0"), "production")
    assert "no service of v1.0.0-100aaaaa has two replicas and says where its metrics are" in calibrate(stage.house, None, looks=2)


@pytest.mark.usefixtures("live")
def test_one_environment_that_breaks_does_not_keep_the_others_from_being_measured(stage: Stage) -> None:
    (stage.environments / "broken.toml").write_text("nonsense = 1\n")
    with pytest.raises(DeliveryError, match="Production: 3 looks"):
        calibrate(stage.house, None, looks=3, clock=VirtualClock())
