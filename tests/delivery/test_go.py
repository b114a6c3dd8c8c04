from datetime import UTC, datetime, timedelta

import pytest

from delivery.backup import RestoreTest
from delivery.environment import Environment, Identity
from delivery.gate import Decision
from delivery.go import Answer, Backups, Freeze, GoSettings, Inspected, Soak, answers, of_alarms
from delivery.scan import Finding, Severity

NOON = datetime(2026, 12, 24, 12, tzinfo=UTC)
CHRISTMAS = Freeze("2026-12-24T13:00:00+01:00", "2026-12-27T08:00:00+01:00", "Christmas")


def asked(
    rules: GoSettings, *, now: datetime = NOON, soak: Soak | None = None, broken: tuple[str, ...] = (), kind: str = "normal"
) -> list[tuple[str, bool]]:
    return [(answer.rule, answer.go) for answer in answers(rules, kind, now=now, soak=soak, broken=broken)]


def soaked(minutes: float, *, until: datetime | None = None) -> Soak:
    return Soak("staging", (until or NOON) - timedelta(minutes=minutes), until)


def test_an_environment_without_rules_asks_nothing() -> None:
    assert asked(GoSettings()) == []


@pytest.mark.parametrize(("minutes", "go"), [(29, False), (30, True), (300, True)])
def test_a_release_soaks_as_long_as_the_rule_says(minutes: float, go: bool) -> None:  # noqa: FBT001
    assert asked(GoSettings(soak_seconds=1800), soak=soaked(minutes)) == [("soak", go)]


def test_a_release_that_has_lived_nowhere_has_not_soaked() -> None:
    assert asked(GoSettings(soak_seconds=1)) == [("soak", False)]


def test_a_release_that_was_replaced_soaks_no_longer() -> None:
    assert asked(GoSettings(soak_seconds=1800), soak=soaked(10, until=NOON - timedelta(hours=5))) == [("soak", False)]


@pytest.mark.parametrize(("hours", "expected"), [(-1, [("freeze", True)]), (0, [("freeze", False)]), (66.9, [("freeze", False)]), (67, [])])
def test_a_freeze_holds_from_its_first_moment_to_its_last(hours: float, expected: list[tuple[str, bool]]) -> None:
    assert asked(GoSettings(freeze=(CHRISTMAS,)), now=NOON + timedelta(hours=hours)) == expected


def test_broken_evidence_is_a_no_where_it_counts() -> None:
    assert asked(GoSettings(evidence=True), broken=("tests: nothing was signed",)) == [("evidence", False)]
    assert asked(GoSettings(evidence=True)) == [("evidence", True)]
    assert asked(GoSettings(), broken=("tests: nothing was signed",)) == []


def test_what_a_rule_is_not_for_is_held_up_by_none() -> None:
    rules = GoSettings(soak_seconds=1800, evidence=True, freeze=(CHRISTMAS,), not_for=("hotfix",))
    assert asked(rules, kind="hotfix") == [("all rules", True)]
    assert asked(rules) == [("soak", False), ("evidence", True), ("freeze", False)]


def test_an_answer_says_why_with_figures() -> None:
    (answer,) = answers(GoSettings(soak_seconds=1800), "normal", now=NOON, soak=soaked(12), broken=())
    assert answer == Answer("soak", go=False, what="12 of 30 min in staging")
    assert answer.sentence() == "NO GO, soak: 12 of 30 min in staging"
    (frozen,) = answers(GoSettings(freeze=(CHRISTMAS,)), "normal", now=NOON, soak=None, broken=())
    assert frozen.sentence() == "NO GO, freeze: Christmas, until 2026-12-27T07:00:00+00:00"


@pytest.mark.parametrize(
    ("starts", "ends"),
    [("2026-12-24", "2026-12-27"), ("2026-12-24T12:00:00", "2026-12-27T12:00:00"), ("soon", "later"), (CHRISTMAS.ends, CHRISTMAS.starts)],
)
def test_a_freeze_that_cannot_be_meant_is_refused(starts: str, ends: str) -> None:
    assert [problem.partition(":")[0] for problem in GoSettings(freeze=(Freeze(starts, ends, "x"),)).problems()] == ["go.freeze[1]"]


def finding(severity: Severity, rule: str = "stack-trace") -> Finding:
    return Finding("inspection", rule, severity, "GET /x", "shows a Python stack trace")


@pytest.mark.parametrize(
    ("inspected", "go", "told"),
    [
        (Inspected("staging", Decision()), True, "nothing from high on is open in staging"),
        (Inspected("staging", Decision(tolerated=(finding(Severity.MEDIUM),))), True, "nothing from high on is open in staging"),
        (
            Inspected("staging", Decision(stopping=(finding(Severity.HIGH), finding(Severity.CRITICAL, "debug-page")))),
            False,
            "critical debug-page is open in staging: GET /x shows a Python stack trace, and 1 more",
        ),
        (Inspected("staging", Decision(blind="GET / answered 503")), False, "it was not scanned in staging: GET / answered 503"),
        (Inspected("staging"), False, "it was not inspected in staging"),
        (None, False, "it was not inspected in any environment"),
    ],
)
def test_nothing_that_is_open_and_bad_enough_goes_on(inspected: Inspected | None, go: bool, told: str) -> None:  # noqa: FBT001
    found = answers(GoSettings(open_findings=Severity.HIGH), "normal", now=NOON, soak=None, broken=(), inspected=inspected)
    assert found == (Answer("findings", go=go, what=told),)
    assert answers(GoSettings(), "normal", now=NOON, soak=None, broken=(), inspected=inspected) == ()


def test_what_is_about_the_environment_before_needs_one() -> None:
    rules = GoSettings(soak_seconds=60)
    first = Environment(Identity("production", target="production"), go=rules)
    assert [problem.partition(":")[0] for problem in first.problems()] == ["go.soak_seconds"]
    assert Environment(Identity("production", target="production", after="staging"), go=rules).problems() == ()
    inspected = Environment(Identity("production", target="production"), go=GoSettings(open_findings=Severity.HIGH))
    assert [problem.partition(":")[0] for problem in inspected.problems()] == ["go.open_findings"]
    assert GoSettings(soak_seconds=-1).problems() == ("go.soak_seconds: got -1, expected 0 or more",)


@pytest.mark.parametrize(("hours", "well", "go"), [(23, True, True), (25, True, False), (1, False, False)])
def test_the_newest_backup_that_was_tried_must_have_come_back_lately(hours: float, well: bool, go: bool) -> None:  # noqa: FBT001
    tried = RestoreTest("production", "production-7", "0" * 64, NOON - timedelta(hours=hours), well, 1.0, "tried")
    found = answers(GoSettings(backup_hours=24), "normal", now=NOON, soak=None, broken=(), backups=Backups(any=True, tried=tried))
    assert [(answer.rule, answer.go) for answer in found] == [("backup", go)]


@pytest.mark.parametrize("there", [True, False])
def test_only_before_the_first_backup_an_untried_one_holds_nobody_up(there: bool) -> None:  # noqa: FBT001
    found = answers(GoSettings(backup_hours=24), "normal", now=NOON, soak=None, broken=(), backups=Backups(any=there))
    assert [answer.go for answer in found] == [not there]


def test_a_critical_alert_within_the_quiet_hours_is_a_no_that_names_it() -> None:
    def said(rules: GoSettings, *alarms: str, kind: str = "normal") -> list[Answer]:
        return list(of_alarms(rules, kind, alarms))

    assert said(GoSettings(quiet_hours=1)) == [Answer("alerts", go=True, what="no critical alert for 1 h")]
    [answer] = said(GoSettings(quiet_hours=1), "critical, needs-human for 3 min: Production needs a person.")
    assert (answer.go, answer.what.endswith("needs-human for 3 min: Production needs a person.")) == (False, True)
    assert said(GoSettings(), "critical, needs-human for 3 min: Production needs a person.") == []
    assert said(GoSettings(quiet_hours=1, not_for=("hotfix",)), "critical", kind="hotfix") == []
    assert GoSettings(quiet_hours=-1).problems() == ("go.quiet_hours: got -1, expected 0 or more",)
