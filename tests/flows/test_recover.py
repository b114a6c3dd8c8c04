"""The second net, as far as it needs no Prefect server."""

from datetime import timedelta

import pytest

from delivery.errors import DeliveryError
from delivery.journal import Ending
from delivery.plan import plan_rollout
from flows.promote import ask
from flows.recover import close_unanswered_requests, last_sentence, tidy_up_everywhere, wait_for_those_that_are_silent
from flows.rollout import finish_abandoned
from tests.flows.conftest import Stage


def test_a_request_whose_time_is_over_is_closed_with_a_sentence(stage: Stage) -> None:
    release = stage.on_staging("1.0.0")
    plan = ask(stage.house, release.id, "production", "normal", key="run-1").plan
    request = stage.house.store.open_request(plan, key="run-2", expires_at=stage.house.store.now() - timedelta(seconds=1))
    expected = f"Production is unchanged. Request {request.number} ended: nobody approved it within 2 hours."
    assert close_unanswered_requests(stage.house) == (expected,)
    assert last_sentence(stage.house.store.request(request.number)) == expected
    assert close_unanswered_requests(stage.house) == ()


def test_a_request_that_still_has_time_is_left_alone(stage: Stage) -> None:
    request = ask(stage.house, stage.on_staging("1.0.0").id, "production", "normal", key="run-1")
    assert close_unanswered_requests(stage.house) == ()
    assert stage.house.store.request(request.number).closed is None


def test_what_is_neither_live_nor_held_warm_is_retired(stage: Stage) -> None:
    first = stage.on_staging("1.0.0")
    second = stage.on_staging("1.1.0")  # staging holds nothing warm
    assert tidy_up_everywhere(stage.house) == (f"{first.id} is retired.",)
    assert stage.targets["staging"].observe().running == {second.id}
    assert tidy_up_everywhere(stage.house) == ()


def test_an_environments_first_release_that_could_not_be_stopped_on_its_way_back_is_stopped_later(stage: Stage) -> None:
    release = stage.published("1.0.0")
    stage.production.fail("promote", 1, DeliveryError("The platform refused.", next="look."))
    stage.production.fail("retire", 1, DeliveryError("The engine is gone.", next="start it."))
    assert stage.bring(release, "production").ending is Ending.ROLLED_BACK
    assert release.id in stage.production.observe().running
    assert tidy_up_everywhere(stage.house) == (f"{release.id} is retired.",)
    assert stage.production.observe().running == frozenset()


def test_an_environment_that_cannot_be_helped_does_not_keep_the_others_waiting(stage: Stage, edit_environment: object) -> None:
    stage.bring(stage.published("1.0.0"), "production")
    first = stage.published("1.1.0")
    stage.bring(first, "staging")
    stage.bring(stage.published("1.2.0"), "staging")
    edit_environment("production", "docker-target/production", "docker-target/nowhere")  # type: ignore[operator]
    assert tidy_up_everywhere(stage.house) == (f"{first.id} is retired.",)


def test_routing_that_somebody_broke_is_put_back_and_said_once(stage: Stage, monkeypatch: pytest.MonkeyPatch) -> None:
    stage.bring(stage.published("1.0.0"), "production")
    broken = [True, False]
    monkeypatch.setattr(type(stage.production), "repair", lambda target: target is stage.production and broken.pop(0), raising=False)
    assert tidy_up_everywhere(stage.house) == ("The routing of production was broken and is put back as it was.",)
    assert tidy_up_everywhere(stage.house) == ()


@pytest.mark.parametrize("then", ["it is renewed", "its holder is gone"])
def test_a_lease_that_is_silent_is_waited_for_until_one_knows(stage: Stage, monkeypatch: pytest.MonkeyPatch, then: str) -> None:
    store, release = stage.house.store, stage.published("1.0.0")
    lease = store.acquire("production", holder="a walker", purpose="a rollout", ttl=timedelta(seconds=60))
    capabilities = stage.production.capabilities
    plan = plan_rollout(release, stage.house.environment("production"), capabilities=capabilities, blue=None)
    rollout = store.open_rollout(lease, plan, by="Ann")
    waits: list[float] = []

    def time_passes(seconds: float) -> None:
        waits.append(seconds)
        if len(waits) == 3:
            store.renew(lease, ttl=timedelta(seconds=90)) if then == "it is renewed" else store.give_up(lease)

    monkeypatch.setattr("flows.recover.time.sleep", time_passes)
    wait_for_those_that_are_silent(stage.house)
    assert waits == [1.0] * 3
    assert len(finish_abandoned(stage.house)) == (then == "its holder is gone")
    assert (store.rollout(rollout).ended_at is None) == (then == "it is renewed")


def test_where_nothing_is_under_way_nobody_waits(stage: Stage, monkeypatch: pytest.MonkeyPatch) -> None:
    stage.bring(stage.published("1.0.0"), "production")
    monkeypatch.setattr("flows.recover.time.sleep", lambda _: pytest.fail("it waited"))
    wait_for_those_that_are_silent(stage.house)
