"""What is refused, and how: before a run exists, in one message, with the exit code of a refusal."""

import httpx
import pytest

from tests.system.premises import Premises

pytestmark = [pytest.mark.docker, pytest.mark.prefect]

SHA = "0123456789abcdef0123456789abcdef01234567"


def test_the_same_idempotency_key_twice_is_one_run(premises: Premises):
    first, again = premises.start_pipeline("1.0.0"), premises.start_pipeline("1.0.0")
    assert (first.status_code, again.status_code) == (httpx.codes.CREATED, httpx.codes.OK)
    assert first.json()["id"] == again.json()["id"] == premises.begin("1.0.0")
    assert premises.runs_of("pipeline/pipeline") == 1


@pytest.mark.parametrize(
    ("parameters", "named"),
    [
        ({"sha": "main"}, "sha"),
        ({"sha": SHA[:12]}, "sha"),
        ({"sha": SHA, "version": "latest"}, "version"),
        ({"sha": SHA, "version": "1.2"}, "version"),
        ({"sha": SHA, "until": "tomorrow"}, "until"),
        ({"sha": SHA, "skip_tests": True}, "skip_tests"),
        ({}, "sha"),
    ],
    ids=["branch name as sha", "short sha", "word as version", "half a version", "unknown stage", "unknown name", "no sha"],
)
def test_what_cannot_be_meant_is_refused_by_the_api_and_no_run_exists(premises: Premises, parameters: dict[str, object], named: str):
    before = premises.runs_of("pipeline/pipeline")
    answer = premises.post("pipeline/pipeline", parameters)
    assert 400 <= answer.status_code < 500, answer.text
    assert named in answer.text
    assert premises.runs_of("pipeline/pipeline") == before


@pytest.mark.parametrize(
    ("command", "told"),
    [
        (("release", "main"), "main"),
        (("release", SHA, "--version", "latest"), "latest"),
        (("promote", "v9.9.9"), "9.9.9"),
        (("promote", "v9.9.9", "moon"), "moon"),
        (("rollback", "moon", "--reason", "x"), "moon"),
        (("rollback", "production", "--version", "9.9.9", "--reason", "x"), "9.9.9"),
        (("status", "--environment", "moon"), "moon"),
        (("approve", "4711", "--reason", "x"), "4711"),
    ],
    ids=lambda given: " ".join(given) if isinstance(given, tuple) else "",
)
def test_bad_input_ends_with_exit_code_2_and_the_next_step(premises: Premises, command: tuple[str, ...], told: str):
    said = premises.greenroom(*command, expect=2)
    assert told in said
    assert "Next: " in said
