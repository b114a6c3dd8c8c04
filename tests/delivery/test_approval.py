from datetime import UTC, datetime, timedelta
from typing import Literal

import pytest

from delivery.approval import Approval, Decision, Expired, Granted, Pending, Refused, decide
from delivery.environment import ApprovalPolicy, Kind

NOON = datetime(2025, 11, 20, 12, 0, tzinfo=UTC)
EVENING = NOON + timedelta(hours=6)
AUTHOR = "Ann Author"

ONE = ApprovalPolicy(quorum=1)
TWO = ApprovalPolicy(quorum=2)
OWN = ApprovalPolicy(quorum=1, author_may_approve=True)
NOBODY = ApprovalPolicy(policy="automatic")
HOTFIXES = ApprovalPolicy(quorum=1, automatic_for=("hotfix",))


def said(person: str, decision: Literal["approve", "reject"] = "approve", *, at: datetime = NOON, reason: str = "seen") -> Approval:
    return Approval(person, decision, reason, channel="ui", at=at)


CASES: list[tuple[str, ApprovalPolicy, list[Approval], Kind, datetime, Decision]] = [
    ("nobody has spoken", ONE, [], "normal", NOON, Pending(1)),
    ("one is enough for one", ONE, [said("Bob")], "normal", NOON, Granted(("Bob",))),
    ("one is not enough for two", TWO, [said("Bob")], "normal", NOON, Pending(1)),
    ("two distinct persons are two", TWO, [said("Cleo"), said("Bob")], "normal", NOON, Granted(("Bob", "Cleo"))),
    ("one person twice is one", TWO, [said("Bob"), said(" bob "), said("BOB")], "normal", NOON, Pending(1)),
    ("inner space does not make another person", TWO, [said("Bob B"), said("bob  b")], "normal", NOON, Pending(1)),
    ("the author does not count", ONE, [said(AUTHOR)], "normal", NOON, Pending(1)),
    ("the author does not count in other letters", ONE, [said(" ANN author")], "normal", NOON, Pending(1)),
    ("the author is not the second of two", TWO, [said("Bob"), said(AUTHOR)], "normal", NOON, Pending(1)),
    ("the author counts where the policy lets them", OWN, [said(AUTHOR)], "normal", NOON, Granted((AUTHOR,))),
    ("the author may reject", ONE, [said(AUTHOR, "reject", reason="typo")], "normal", NOON, Refused(AUTHOR, "typo")),
    ("a rejection beats approvals", ONE, [said("Bob"), said("Cleo"), said("Dan", "reject")], "normal", NOON, Refused("Dan", "seen")),
    ("a rejection beats the automatic policy", NOBODY, [said("Dan", "reject")], "normal", NOON, Refused("Dan", "seen")),
    ("automatic asks nobody", NOBODY, [], "normal", NOON, Granted(("policy",))),
    ("a hotfix passes where the policy says so", HOTFIXES, [], "hotfix", NOON, Granted(("policy",))),
    ("a normal release does not pass as a hotfix", HOTFIXES, [], "normal", NOON, Pending(1)),
    ("a hotfix waits where the policy says nothing", ONE, [], "hotfix", NOON, Pending(1)),
    ("too late is expired", ONE, [], "normal", EVENING, Expired(EVENING)),
    ("an approval after the expiry does not count", ONE, [said("Bob", at=EVENING)], "normal", EVENING, Expired(EVENING)),
    ("an approval in time still counts later", ONE, [said("Bob")], "normal", EVENING + timedelta(days=1), Granted(("Bob",))),
    (
        "a rejection after the expiry changes nothing",
        ONE,
        [said("Bob"), said("Dan", "reject", at=EVENING)],
        "normal",
        NOON,
        Granted(("Bob",)),
    ),
]


@pytest.mark.parametrize(("policy", "approvals", "kind", "now", "expected"), [case[1:] for case in CASES], ids=[case[0] for case in CASES])
def test_approvals_amount_to_what_the_case_says(
    policy: ApprovalPolicy, approvals: list[Approval], kind: Kind, now: datetime, expected: Decision
) -> None:
    assert decide(policy, approvals, kind=kind, author=AUTHOR, expires_at=EVENING, now=now) == expected
