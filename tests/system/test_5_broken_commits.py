"""Broken commits go no further than the stage that finds them, and the run says which tool and where."""

import pytest

from delivery.journal import Ending
from tests.system.premises import Premises

pytestmark = [pytest.mark.docker, pytest.mark.prefect]


@pytest.mark.parametrize(
    ("fault", "tool", "place"),
    [
        ("lint", "ruff failed:", "api/dealbrain/prices.py:3"),
        ("pytest", "pytest failed:", "api/tests/test_prices.py:"),
        ("jest", "jest failed:", "web/tests/money.test.ts:"),
        ("playwright", "e2e failed:", "e2e/critical.spec.ts:"),
    ],
)
def test_a_broken_commit_is_stopped_by_the_tool_that_finds_it_and_the_place_is_named(premises: Premises, fault: str, tool: str, place: str):
    if fault != "playwright":
        for other in ("lint", "pytest", "jest"):
            premises.begin(other)  # side by side
    run = premises.ended(premises.begin(fault))
    assert run.state == "FAILED"
    assert tool in run.message
    assert place in run.message
    assert "Traceback" not in run.message
    assert premises.rollouts_of(premises.commits[fault]) == []
    assert not [line for line in premises.log_of(run.id) if "Traceback" in line]


def test_a_broken_migration_leaves_staging_on_the_version_before_which_answers_all_along(premises: Premises):
    premises.staged("1.1.0")
    run = premises.ended(premises.begin("migration"))
    assert run.state == "FAILED"
    assert run.message.startswith("Staging is unchanged. v1.2.0 was turned back: migration failed: ")
    assert "no_macs" in run.message
    [record] = premises.rollouts_of(premises.commits["migration"])
    premises.require_ended(record, Ending.UNTOUCHED, "Staging is unchanged.")
    assert premises.replicas("staging", "1.2.0") == set()
    assert premises.answers("staging") == "1.1.0"
    assert premises.journal.live("staging") == premises.staged("1.1.0")
    assert premises.users["staging"].versions() <= {"1.0.0", "1.1.0"}
