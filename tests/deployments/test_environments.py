"""The environment files of this repository are sound, and production is as strict as the specification wants it."""

from pathlib import Path

import pytest

from blocks.settings import environment_names, load_environment
from delivery.environment_rules import Values, look, troubles
from delivery.triggers import Trigger

ROOT = Path(__file__).resolve().parents[2]
FOLDER = Path(__file__).resolve().parents[2] / "deployments" / "environments"


@pytest.mark.parametrize("name", ["staging", "production"])
def test_every_environment_file_is_sound(name: str) -> None:
    assert name in environment_names(FOLDER)
    assert load_environment(name, FOLDER).problems() == ()


def test_staging_asks_nobody_and_proves_under_load() -> None:
    staging = load_environment("staging", FOLDER)
    assert staging.approval.policy == "automatic"
    assert staging.traffic.steps == (100,)
    assert staging.prove.load


def test_production_waits_for_a_person_other_than_the_author() -> None:
    production = load_environment("production", FOLDER)
    assert production.environment.after == "staging"
    assert (production.approval.policy, production.approval.quorum, production.approval.author_may_approve) == ("form", 1, False)
    assert production.approval.automatic_for == ()


def test_production_takes_signed_releases_of_the_main_branch_only() -> None:
    policy = load_environment("production", FOLDER).provenance
    assert (policy.required, policy.branch) == (True, "main")


def test_production_has_the_triggers_of_the_specification() -> None:
    found = {(trigger.metric, trigger.threshold, trigger.for_seconds) for trigger in load_environment("production", FOLDER).trigger}
    assert found >= {("error_rate", 0.05, 120), ("p95_ms", 3000, 180), ("cpu", 0.9, 300), ("memory", 0.85, 300)}
    assert {metric for metric, _, _ in found} >= {"database_lost", "log_pattern"}


def test_a_watch_lasts_long_enough_for_its_triggers_to_be_seen() -> None:
    """A watch holds while a limit is being broken, so a trigger may fire after it; a gap in the metrics must not reset every trigger."""
    production = load_environment("production", FOLDER)
    for trigger in production.trigger:
        assert isinstance(trigger, Trigger)
        assert trigger.for_seconds <= production.traffic.watch_seconds + production.watch.blind_seconds
        assert trigger.max_gap_seconds > production.watch.interval_seconds


def test_production_is_verified_and_goes_back_by_itself() -> None:
    policy = load_environment("production", FOLDER).verification
    assert (policy.enabled, policy.on_failure, policy.newest_seconds) == (True, "rollback", 1200)
    assert policy.alert_after < policy.rollback_after


@pytest.mark.parametrize("folder", ["deployments/environments", "deployments/demo/environments", "tests/system/environments"])
def test_what_environment_files_give_debugs_nothing_and_is_no_secret(folder: str) -> None:
    for name in environment_names(ROOT / folder):
        environment = load_environment(name, ROOT / folder)
        known = {variable: look(variable, value, key=b"", place="") for variable, value in environment.variables.items()}
        here = Values(name, first=environment.environment.after is None, known=known, whole=True)
        assert troubles(here, (), ()) == ()
