"""Prefect's server is gone: the way back is open all the same, and everything goes on once the server is there again."""

import pytest

from delivery.journal import Ending
from tests.system.premises import Premises

pytestmark = [pytest.mark.docker, pytest.mark.prefect]


def test_the_way_back_is_open_while_the_server_is_stopped(premises: Premises):
    premises.lived("1.1.0")
    premises.live("1.0.0")
    server = premises.installation.prefect
    server.stop()
    try:
        assert not premises.api.answers()
        command = ("rollback", "production", "--version", "1.1.0", "--reason", "nobody answers", "--as", "Olga Operator", "--via", "direct")
        assert "Production runs v1.1.0." in premises.greenroom(*command)
        assert "v1.1.0" in premises.greenroom("status", "--environment", "production")
    finally:
        server.start()
    record = premises.last_rollout("production")
    premises.require_ended(record, Ending.LIVE, "Production runs v1.1.0.")
    assert (record.kind, record.by) == ("rollback", "Olga Operator: nobody answers")
    assert premises.answers("production") == "1.1.0"


def test_runs_go_on_once_the_server_is_back(premises: Premises):
    premises.live("1.1.0")
    run = premises.ended(premises.start("rollback/rollback", environment="production", reason="it is back"))
    assert (run.state, run.message) == ("COMPLETED", "Production runs v1.0.0.")
