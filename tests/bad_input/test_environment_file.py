"""Rows of the corpus that an environment file can have, or an image, or a target."""

from collections.abc import Callable
from pathlib import Path

import pytest

from delivery.environment import Capability
from delivery.errors import InvalidSettings
from delivery.health import says_any
from delivery.image import ImageRef
from delivery.plan import require_able
from tests.bad_input.samples import PLANTED, PRODUCTION, RELEASE, STAGING
from tests.samples import an_environment

ENVIRONMENTS = [
    ("11", "[traffic]", "[trafic]", ":10 trafic: got an unknown key", "(did you mean traffic?)"),
    ("14", 'LOG_LEVEL = "INFO"', "VERSION = 1.10", ":26 variables.VERSION: got 1.1, expected text in quotes"),
    ("18", 'after = "staging"', 'after = "production"', ":4 environment.after: got 'production', expected another environment"),
    ("23", '"docker-target/production"', '"kubernets production"', ":3 environment.target: got 'kubernets production', expected the name"),
    ("26", "[10, 50, 100]", "[10, 25, 25, 100]", ":11 traffic.steps: got [10, 25, 25, 100], expected rising percentages that end at 100"),
    ("27", "[10, 50, 100]", "[10, 50]", ":11 traffic.steps: got [10, 50]"),
    ("28", "[10, 50, 100]", "[-5, 101]", ":11 traffic.steps: got [-5, 101]"),
    ("28", "[10, 50, 100]", '[12.5, "10%"]', ":11 traffic.steps[1]: got 12.5, expected a whole", "traffic.steps[2]: got '10%'"),
    ("29", "[10, 50, 100]", "[]", ":11 traffic.steps: got [], expected rising"),
    ("31", "bake_seconds = 30", "bake_seconds = -1", ":13 traffic.bake_seconds: got -1.0, expected 0 or more"),
    ("31", "bake_seconds = 30", 'bake_seconds = "5"', ":13 traffic.bake_seconds: got '5', expected a number"),
    ("31", "bake_seconds = 30", "bake_seconds = 1e9", ":13 traffic.bake_seconds: got 1e+09, expected at most 86400"),
    ("32", "threshold = 0.05", "threshold = 5", "trigger.threshold: got 5 for error_rate, expected a share from 0 to 1: 5 % is 0.05"),
    ("33", "threshold = 0.05", "threshold = nan", ":22 trigger[1].threshold: got nan, expected a finite number"),
    ("34", "window_seconds = 60", "window_seconds = 6", ":17 watch.window_seconds: got 6, expected two intervals or more"),
    ("36", '"error_rate"', '"error_rat"', ":21 trigger[1].metric: got 'error_rat', expected one of 'error_rate', 'p95_ms'"),
    ("37", '["FATAL"]', '["  "]', ":18 watch.log_patterns: got '  ', expected words within one line"),
    ("44", 'LOG_LEVEL = "INFO"', f'DB_PASSWORD = "{PLANTED}"', ":26 variables.DB_PASSWORD: got a secret as plain text (not shown)"),
    ("44", 'LOG_LEVEL = "INFO"', f'HOOK = "https://{"hooks.slack"}.com/services/T0/B0/{"x" * 20}"', "variables.HOOK: got a secret"),
    ("46", 'LOG_LEVEL = "INFO"', '1A = "x"', ":26 variables.1A: got a name that no variable has"),
    ("59", 'policy = "form"\nquorum = 1', 'policy = "automatic"\nquorum = 2', ":8 approval.quorum: got 2 beside policy = 'automatic'"),
    ("59", "quorum = 1", "quorum = 0", ":8 approval.quorum: got 0, expected 1 or more"),
]  # fmt: skip


@pytest.mark.parametrize(("row", "right", "wrong", "said"), [(row, right, wrong, said) for row, right, wrong, *said in ENVIRONMENTS])
def test_what_cannot_be_meant_in_an_environment_file_keeps_a_release_from_it(
    room: Path, refusal: Callable[..., str], row: str, right: str, wrong: str, said: list[str]
) -> None:
    file = room / "environments" / "production.toml"
    assert right in PRODUCTION, row
    file.write_text(PRODUCTION.replace(right, wrong, 1))
    heard = refusal("promote", RELEASE, "production")
    assert heard.startswith(str(file))
    assert all(part in heard for part in said), heard
    assert "\nNext: correct the environment file." in heard


def test_environments_do_not_come_after_one_another_in_a_circle(room: Path, refusal: Callable[..., str]) -> None:
    (room / "environments" / "staging.toml").write_text(STAGING + 'after = "canary"\n')
    (room / "environments" / "canary.toml").write_text(STAGING.replace("staging", "canary") + 'after = "production"\n')
    assert "makes a circle (production after staging after canary after production)" in refusal("promote", RELEASE, "production")


def test_log_patterns_are_plain_text_and_cost_nothing() -> None:
    assert not says_any("a" * 10_000 + "!", ("(a+)+$", "("))
    assert says_any("it said (a+)+$ here", ("(a+)+$",))


def test_traffic_in_steps_needs_a_target_that_splits_it() -> None:
    with pytest.raises(InvalidSettings, match="cannot split traffic") as refused:
        require_able(an_environment(), frozenset(Capability) - {Capability.SPLIT_TRAFFIC})
    assert "traffic.steps = [100]" in refused.value.next


@pytest.mark.parametrize("text", ["shop/api:latest", "ghcr.io/shop/api", f"ghcr.io/shop/api@sha256:{'0' * 63}", "ghcr.io/Shop api"])
def test_an_image_without_its_whole_digest_is_none(text: str) -> None:
    with pytest.raises(InvalidSettings, match="Not a pinned image"):
        ImageRef.parse(text)
