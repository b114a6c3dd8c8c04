"""The way back by hand: warm and cold, from the terminal, by HTTP and in the browser."""

import pytest

from delivery.journal import Ending
from tests.browser.prefect_pages import PrefectPages
from tests.system.premises import Premises, until

pytestmark = [pytest.mark.docker, pytest.mark.prefect]


def test_a_warm_release_is_back_by_one_shift_from_the_terminal(premises: Premises):
    premises.live("1.1.0")
    for fault in ("lint", "pytest", "jest"):
        premises.begin(fault)  # looked at later
    warm = premises.replicas("production", "1.0.0")
    assert warm, "1.0.0 is still up, as the hold time promises"
    with premises.policy("production", hold_seconds=0):  # what goes now is not kept, so that the next way back is a cold one
        told = premises.greenroom("rollback", "production", "--reason", "prices look wrong", "--as", "Olga Operator")
    assert "Production runs v1.0.0." in told

    record = premises.last_rollout("production")
    premises.require_ended(record, Ending.LIVE, "Production runs v1.0.0.")
    assert (record.kind, record.by) == ("rollback", "Olga Operator: prices look wrong")
    assert warm <= premises.replicas("production", "1.0.0"), "nothing was started anew, but for the worker that had left"
    assert premises.answers("production") == "1.0.0"


def test_a_cold_release_is_brought_back_by_its_version_over_http(premises: Premises):
    premises.lived("1.1.0")
    premises.live("1.0.0")
    gone = premises.replicas("production", "1.1.0")
    with premises.policy("production", hold_seconds=0):
        premises.start("recover/recover")
        until(lambda: not premises.replicas("production", "1.1.0") or None, "1.1.0 to be retired")
        run_id = premises.start("rollback/rollback", environment="production", version="1.1.0", reason="the prices were right", by="curl")
        run = premises.ended(run_id)
    assert (run.state, run.message) == ("COMPLETED", "Production runs v1.1.0.")
    assert premises.answers("production") == "1.1.0"
    assert premises.replicas("production", "1.1.0").isdisjoint(gone)
    assert premises.last_rollout("production").by == "curl: the prices were right"


@pytest.mark.browser
def test_a_cold_release_is_brought_back_in_the_browser(pages: PrefectPages, premises: Premises):
    premises.live("1.1.0")
    pages.start("rollback", environment="production", reason="prices are wrong after all", by="Bo Browser")
    run = premises.ended(pages.run_id)
    pages.wait_for("Completed")
    assert (run.state, run.message) == ("COMPLETED", "Production runs v1.0.0.")
    assert premises.answers("production") == "1.0.0"
    assert premises.last_rollout("production").by == "Bo Browser: prices are wrong after all"
