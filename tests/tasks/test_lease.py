import threading
from datetime import timedelta

import pytest

from delivery.errors import DeliveryError, EnvironmentBusy, StaleFence
from tasks.lease import LeaseKeeper
from tests.memory_journal import MemoryJournal
from tests.simulated_target import VirtualClock

TTL = timedelta(seconds=30)


class House:
    def __init__(self) -> None:
        self.clock = VirtualClock()
        self.store = MemoryJournal(self.clock.now)

    def keeper(self, holder: str = "walker", ttl: timedelta = TTL) -> LeaseKeeper:
        return LeaseKeeper(self.store, "production", holder=holder, purpose="v1.2.0", ttl=ttl, clock=self.clock.now)


@pytest.fixture
def house() -> House:
    return House()


def test_the_token_carries_the_fence_of_the_lease(house: House) -> None:
    with house.keeper() as keeper:
        token = keeper.token("production-7")

    assert (token.environment, token.rollout, token.fence) == ("production", "production-7", 1)


def test_leaving_gives_the_lease_up_and_the_fence_goes_on_rising(house: House) -> None:
    with house.keeper():
        pass
    with house.keeper("another") as keeper:
        assert keeper.lease.fence == 2


def test_somebody_else_is_refused_while_it_is_held(house: House) -> None:
    with house.keeper(), pytest.raises(EnvironmentBusy), house.keeper("another"):
        pytest.fail("two holders")


def test_a_renewal_makes_it_last(house: House) -> None:
    with house.keeper() as keeper:
        house.clock.wait(20)
        keeper.renew()
        house.clock.wait(20)
        keeper.ensure()

        assert not keeper.lost.is_set()


def test_a_lease_about_to_expire_is_renewed_before_it_is_relied_on(house: House) -> None:
    with house.keeper() as keeper:
        house.clock.wait(20)
        keeper.ensure(outlasts=10)

        assert keeper.lease.expires_at == house.store.now() + TTL


def test_a_lease_that_went_to_somebody_else_is_lost(house: House) -> None:
    with house.keeper() as keeper:
        house.clock.wait(31)
        with house.keeper("another"):
            keeper.renew()
            assert keeper.lost.is_set()
            with pytest.raises(StaleFence):
                keeper.ensure()


def test_one_failing_renewal_is_not_the_end(house: House) -> None:
    with house.keeper() as keeper:
        house.clock.wait(10)
        house.store.unreachable = True
        keeper.renew()
        keeper.ensure()
        house.store.unreachable = False
        house.clock.wait(10)
        keeper.renew()

        assert not keeper.lost.is_set()


def test_renewals_that_fail_until_the_expiry_lose_it_a_little_early(house: House) -> None:
    with house.keeper() as keeper:
        house.store.unreachable = True
        house.clock.wait(26.9)
        keeper.renew()
        assert not keeper.lost.is_set()
        house.clock.wait(0.2)
        keeper.renew()

        assert keeper.lost.is_set()


def test_a_process_that_slept_over_its_expiry_does_not_act(house: House) -> None:
    with house.keeper() as keeper:
        house.clock.wait(3600)
        with pytest.raises(StaleFence):
            keeper.ensure()


def test_it_cannot_be_made_to_last_longer_than_its_time(house: House) -> None:
    with house.keeper() as keeper, pytest.raises(StaleFence):
        keeper.ensure(outlasts=60)


def test_a_store_that_is_gone_at_the_end_does_not_hide_the_result(house: House, monkeypatch: pytest.MonkeyPatch) -> None:
    def gone(_: object) -> None:
        raise DeliveryError("The journal does not answer.", next="start it.")

    with house.keeper() as keeper:
        monkeypatch.setattr(house.store, "give_up", gone)

    assert not keeper.lost.is_set()


def test_the_thread_renews_by_itself(house: House) -> None:
    renewed = threading.Event()
    plain = house.store.renew

    def seen(*arguments: object, **named: object) -> object:
        renewed.set()
        return plain(*arguments, **named)  # type: ignore[arg-type]

    house.store.renew = seen  # type: ignore[method-assign,assignment]
    with house.keeper(ttl=timedelta(milliseconds=30)):
        assert renewed.wait(timeout=30)


def test_outside_its_block_there_is_no_lease(house: House) -> None:
    with pytest.raises(DeliveryError, match="is not held"):
        _ = house.keeper().lease
