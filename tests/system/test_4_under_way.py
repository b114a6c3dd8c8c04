"""While a rollout is under way: nobody else acts there, and cancelling it gives the users back."""

from collections.abc import Iterator

import pytest

from delivery.journal import Ending, Started
from delivery.record import RolloutRecord
from tests.system.premises import Premises, until

pytestmark = [pytest.mark.docker, pytest.mark.prefect]


@pytest.fixture(scope="module")
def under_way(premises: Premises) -> Iterator[str]:
    """The run of a promotion that stays at half of the users for longer than any test."""
    premises.live("1.0.0")
    premises.users["production"].start()  # without them nobody could tell how green fares
    premises.lived("1.1.0")
    premises.live("1.0.0")
    for fault in ("playwright", "migration"):
        premises.begin(fault)  # looked at later
    release = premises.staged("1.1.0")
    with premises.policy("production", watch_seconds=600):
        run_id = premises.start("promote/promote", release=release.id, environment="production")
        premises.approve(run_id)

    def watched() -> bool | None:
        record = premises.last_rollout("production")
        last = premises.journal.entries(record.id)[-1].event
        return (isinstance(last, Started) and last.step == "watch-50") or None

    until(watched, "the promotion to be watched at 50 %")
    yield run_id
    if not premises.api.run(run_id).has_ended:
        premises.api.cancel(run_id)
        premises.ended(run_id)
        closed(premises)


def closed(premises: Premises) -> RolloutRecord:
    """Production's newest rollout, once the steward has ended what the cancelled run left to it."""

    def look() -> RolloutRecord | None:
        record = premises.last_rollout("production")
        return record if record.ended_at else None

    return until(look, "the steward to end the cancelled rollout")


def test_a_second_rollout_is_refused_and_told_who_is_at_it_since_when(premises: Premises, under_way: str):
    before = premises.last_rollout("production")
    run_id = premises.start("rollback/rollback", environment="production", version="1.1.0", reason="at the same time")
    run = premises.ended(run_id)
    assert run.state == "FAILED"
    assert "Production is busy: rollout of v1.1.0 by " in run.message
    assert " since 20" in run.message
    assert "Next: " in run.message
    assert premises.last_rollout("production") == before
    assert not premises.api.run(under_way).has_ended


def test_a_cancelled_promotion_gives_production_back_to_the_release_before(premises: Premises, under_way: str):
    answer = premises.http.post(f"/flow_runs/{under_way}/set_state", json={"state": {"type": "CANCELLING"}})
    assert answer.is_success
    run = premises.ended(under_way)
    assert premises.answers("production") == "1.0.0"
    record = closed(premises)
    premises.require_ended(record, Ending.ROLLED_BACK, "Production is back on v1.0.0. v1.1.0 was turned back: the rollout was cancelled")
    assert run.state in ("CANCELLED", "FAILED"), run
    assert premises.answers("production") == "1.0.0"
    assert premises.replicas("production", "1.1.0") == set()
    assert [step for step in premises.steps_of(record.id) if step in ("restore", "remove", "promote")] == ["restore", "remove"]
