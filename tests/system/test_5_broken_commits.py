"""Broken commits go no further than the stage that finds them, and the run says which tool and where."""

import pytest

from delivery.journal import Ending
from delivery.source import Semver
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
    assert run.message.startswith(
        "Staging is unchanged. v1.2.0 was turned back: migrating a copy of the database: revision 0003_no_macs fails"
    )
    [record] = premises.rollouts_of(premises.commits["migration"])
    premises.require_ended(record, Ending.UNTOUCHED, "Staging is unchanged.")
    assert premises.replicas("staging", "1.2.0") == set()
    assert premises.answers("staging") == "1.1.0"
    assert premises.journal.live("staging") == premises.staged("1.1.0")
    assert premises.users["staging"].versions() <= {"1.0.0", "1.1.0"}


def test_a_migration_that_does_not_fit_the_version_that_serves_is_refused_before_anything_is_published(premises: Premises):
    premises.staged("1.1.0")
    run = premises.ended(premises.begin("warranty"))
    assert run.state == "FAILED"
    assert run.message.startswith(
        "Staging is unchanged. v1.3.0 is refused: revision 0003_warranty may not run while v1.1.0 serves: statement 3, required-column"
    )
    assert "[[waiver]]" in run.message
    assert premises.rollouts_of(premises.commits["warranty"]) == []
    assert premises.journal.release_of_commit(premises.commits["warranty"], Semver.parse("1.3.0")) is None


def test_a_release_that_renames_a_column_in_use_is_stopped_before_production_and_the_failing_smoke_test_is_named(premises: Premises):
    premises.staged("1.1.0")
    run = premises.ended(premises.begin("renamed"))
    assert run.state == "FAILED"
    assert run.message.startswith(
        "Staging is unchanged. v1.4.0 was turned back: v1.1.0 still serves, and does not live with the new schema: smoke test: "
        "api of v1.1.0 answered 500 to GET /api/listings?limit=1, expected 200."
    )
    [record] = premises.rollouts_of(premises.commits["renamed"])
    premises.require_ended(record, Ending.UNTOUCHED, "Staging is unchanged.")
    assert premises.steps_of(record.id)[:2] == ["prepare", "prove"]
    assert "migrate" not in premises.steps_of(record.id)
    assert not [request for request in premises.journal.requests() if request.plan.release.id == record.release]
    assert premises.answers("staging") == "1.1.0"
    assert premises.databases("staging") == {"dealbrain", "postgres"}  # the copy is gone
    assert premises.trials("staging") == []
