"""How old a secret may be, and what follows."""

from datetime import UTC, date, datetime, timedelta

import pytest

from delivery.go import GoSettings, answers
from delivery.secret_age import Age, AgePolicy, AgeWaiver, KeptSecret, SecretAge, ages_of, failing

TODAY = date(2026, 6, 1)
NOON = datetime(2026, 6, 1, 12, tzinfo=UTC)


def made(days: int, **changes: object) -> KeptSecret:
    return KeptSecret(owner="Bea", created=TODAY - timedelta(days=days), **changes)  # type: ignore[arg-type]


def waiver(until: date = TODAY, *, of: str = "DATABASE_URL", reason: str = "the provider is closed") -> AgeWaiver:
    return AgeWaiver(secret=of, reason=reason, owner="Ann", until=until)


def age(secret: KeptSecret, *waivers: AgeWaiver) -> SecretAge:
    (found,) = ages_of({"DATABASE_URL": secret}, AgePolicy(waiver=waivers), today=TODAY)
    return found


@pytest.mark.parametrize(
    ("days", "expected"),
    [(0, Age.FRESH), (74, Age.FRESH), (75, Age.DUE), (89, Age.DUE), (90, Age.OVERDUE), (96, Age.OVERDUE), (97, Age.TOO_OLD)],
)
def test_people_are_warned_at_75_days_the_doctor_fails_at_90_and_releases_wait_at_97(days: int, expected: Age) -> None:
    found = age(made(days))
    assert (found.age, found.days) == (expected, days)
    assert found.stops is (days >= 97)
    assert bool(failing([found])) is (days >= 90)


def test_a_team_may_set_its_own_days() -> None:
    (found,) = ages_of({"A": made(30)}, AgePolicy(warn_days=10, overdue_days=20, refuse_days=30), today=TODAY)
    assert found.age is Age.TOO_OLD


def test_a_registered_secret_without_a_day_counts_as_the_oldest() -> None:
    assert age(KeptSecret(owner="Bea")).stops


def test_a_day_in_the_future_is_not_believed_beyond_the_worlds_time_zones() -> None:
    assert age(made(-1)).days == 0
    assert age(made(-2)).stops


def test_a_secret_that_nobody_registered_is_not_judged_and_stops_nothing() -> None:
    (found,) = ages_of({}, AgePolicy(), today=TODAY, present={"REDIS_URL"})
    assert (found.age, found.stops, failing([found])) == (Age.UNKNOWN, False, ())


def test_a_waiver_lets_releases_go_until_its_last_day_and_the_doctor_still_fails() -> None:
    waived = age(made(97), waiver(TODAY))
    assert not waived.stops
    assert failing([waived]) == (waived,)
    assert "waived by Ann until 2026-06-01" in waived.sentence()
    assert age(made(97), waiver(TODAY - timedelta(days=1))).stops


@pytest.mark.parametrize("other", [waiver(of="REDIS_URL"), waiver(reason=" ")])
def test_a_waiver_of_another_secret_or_without_a_reason_excuses_nothing(other: AgeWaiver) -> None:
    assert age(made(97), other).stops


def test_the_worst_stands_first() -> None:
    secrets = {"A": made(1), "B": made(80), "C": made(97), "D": made(91)}
    found = ages_of(secrets, AgePolicy(), today=TODAY, present={"A", "E"})
    assert [one.name for one in found] == ["C", "D", "B", "E", "A"]


def asked(*secrets: SecretAge, kind: str = "normal", rules: GoSettings = GoSettings()) -> list[tuple[str, bool]]:  # noqa: B008  frozen
    found = answers(rules, kind, now=NOON, soak=None, broken=(), secrets=secrets)
    return [(answer.rule, answer.go) for answer in found]


def test_one_secret_too_old_is_a_no_go_for_each_kind_the_rules_are_for() -> None:
    assert asked(age(made(96)), age(made(1))) == [("secrets", True)]
    assert asked(age(made(96)), age(made(97))) == [("secrets", False)]
    assert asked(age(made(97)), kind="config") == [("secrets", False)]
    assert asked(age(made(97), waiver())) == [("secrets", True)]
    assert asked(age(made(97)), kind="hotfix", rules=GoSettings(not_for=("hotfix",))) == [("all rules", True)]


def test_an_environment_that_registers_no_secret_is_asked_nothing() -> None:
    assert asked() == []


def test_what_cannot_be_meant_is_named() -> None:
    assert AgePolicy().problems({"A": made(1)}) == ()
    wrong = AgePolicy(warn_days=91, waiver=(waiver(of="B"),))
    found = wrong.problems({"A": KeptSecret(owner=" ", version=0), "postgresql://app:hunter2@db": made(1)})
    assert [problem.partition(": ")[0] for problem in found] == [
        "secret_age",
        "secret_age.waiver[1].secret",
        "secrets.A.owner",
        "secrets.A.version",
        "secrets",
    ]
    assert "hunter2" not in " ".join(found)
