"""How far a secret's rotation has come, from the facts alone."""

from dataclasses import replace
from datetime import UTC, datetime

import pytest

from delivery.rotation import Login, RotationStep, SecretVersions, rotation_of

OLD = Login("shop_one", frozenset({"SELECT on prices", "INSERT on prices"}), {"shop_one": 0, "shop_two": 4})
NEW = replace(OLD, role="shop_two")
# Everything is done but taking the old version out of the block.
NEARLY = SecretVersions("production", "DATABASE_URL", (1, 2), named=2, live=2, logins={1: None, 2: NEW})
HELD = (("v1.1.0-3f2a1bc9", datetime(2026, 6, 1, 12, 30, tzinfo=UTC)),)


def waits_for(secret: SecretVersions) -> tuple[str, str]:
    found = rotation_of(secret).waits_for
    assert found is not None
    return found.step.value, found.what


@pytest.mark.parametrize(
    ("secret", "step", "what"),
    [
        (replace(NEARLY, there=(1,), live=1, logins=None), "add", "there is one version, 1"),
        (replace(NEARLY, logins={1: OLD, 2: None}), "verify", "the database refuses version 2"),
        (replace(NEARLY, named=1, live=1, logins={1: OLD, 2: NEW}), "name", "the environment's file names version 1"),
        (replace(NEARLY, live=1, logins={1: OLD, 2: NEW}), "roll out", "the live release runs with version 1"),
        (
            replace(NEARLY, warm=HELD, logins={1: OLD, 2: NEW}),
            "let go",
            "still running with an older version: v1.1.0-3f2a1bc9 until 2026-06-01 12:30 UTC",
        ),
        (replace(NEARLY, logins={1: OLD, 2: replace(NEW, sessions={"shop_one": 2})}), "let go", "shop_one has 2 sessions"),
        (replace(NEARLY, logins={1: OLD, 2: NEW}), "disable", "the database still lets in version 1"),
        (NEARLY, "forget", "version 1 is still among the secrets"),
    ],
)
def test_each_step_waits_for_the_one_before(secret: SecretVersions, step: str, what: str) -> None:
    assert waits_for(secret) == (step, what)
    assert rotation_of(secret).next


def test_a_role_that_may_do_less_is_stopped_before_users_meet_it() -> None:
    less = replace(NEW, rights=frozenset({"SELECT on prices"}))
    assert waits_for(replace(NEARLY, live=1, named=1, logins={1: OLD, 2: less})) == (
        "verify",
        "shop_two may not do what shop_one may: INSERT on prices",
    )


def test_the_same_role_with_another_password_has_no_sessions_of_its_own_to_wait_for() -> None:
    same = replace(OLD, sessions={"shop_one": 4})
    assert waits_for(replace(NEARLY, logins={1: same, 2: same}))[0] == "disable"


def test_what_nobody_can_tell_is_said_and_holds_nothing_up() -> None:
    rotation = rotation_of(replace(NEARLY, name="TOKEN", logins=None))
    assert [one.step for one in rotation.findings if one.done is None] == [RotationStep.VERIFY, RotationStep.RELEASE, RotationStep.DISABLE]
    assert rotation.waits_for is not None
    assert rotation.waits_for.step is RotationStep.FORGET


def test_one_version_that_everybody_works_with_is_the_end_and_says_how_to_begin_again() -> None:
    rotation = rotation_of(replace(NEARLY, there=(2,)))
    assert rotation.waits_for is None
    assert "DATABASE_URL@3 beside DATABASE_URL@2" in rotation.next
