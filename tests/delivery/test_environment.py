import pytest

from delivery.environment import ApprovalPolicy, Environment, Identity, JudgeSettings
from tests.delivery.samples import an_environment


def test_a_sound_file_has_no_problems() -> None:
    assert an_environment().problems() == ()


@pytest.mark.parametrize(
    ("key", "got", "expected"),
    [
        ("look_seconds", 0.0, "more than 0"),
        ("warm_up_seconds", -1.0, "0 or more"),
        ("alpha", 1.0, "a fraction between 0 and 1"),
        ("alpha", 0.0, "a fraction between 0 and 1"),
        ("error_margin", 5.0, "a fraction between 0 and 1"),
        ("error_noise", -0.1, "a standard deviation from 0 to below 1"),
        ("latency_noise", 3.0, "a standard deviation from 0 to below 1"),
    ],
)
def test_figures_of_the_judge_that_cannot_be_meant_are_named(key: str, got: float, expected: str) -> None:
    assert JudgeSettings(**{key: got}).problems() == (f"judge.{key}: got {got:g}, expected {expected}",)  # type: ignore[arg-type]


def test_the_judge_is_as_careful_as_the_file_says() -> None:
    policy = JudgeSettings(alpha=0.001, warm_up_seconds=5, error_margin=0.02).policy()
    assert (policy.alpha, policy.warm_up_seconds, policy.error_margin) == (0.001, 5, 0.02)


def test_a_hotfix_passes_by_itself_nowhere_that_signatures_count() -> None:
    environment = Environment(
        Identity("production", target="production"), approval=ApprovalPolicy(policy="signed", automatic_for=("hotfix",))
    )
    assert [problem.partition(":")[0] for problem in environment.problems()] == ["approval.automatic_for"]
