"""When the schema may go back: each condition by itself, each unknown, and all of them together."""

from dataclasses import replace
from itertools import combinations

import pytest

from delivery.downgrade import CONDITIONS, Circumstances, DowngradePolicy, Known, losses, may_downgrade, taken_back
from delivery.operations import Lock, Operation, Safety
from delivery.revisions import ReviewedRevision
from delivery.undoing import Loss, Undoing

OLD = "v1.1.0-11aaaaaa"
OBJECTION = Operation(1, "DROP …", "drop-column", Safety.UNSAFE, Lock.ACCESS_EXCLUSIVE, "rooms", "it is read", "expand first.")
UNNOTICED = "taking revision 0004 back would not go unnoticed"
GOES_BACK = Undoing(losses=(Loss("rooms", "floor"),))


def a_revision(name: str, *down: str, undoing: Undoing | None = GOES_BACK) -> ReviewedRevision:
    return ReviewedRevision(name, down, "0" * 64, "", "SELECT 1", (), undoing)


CHAIN = (a_revision("0003", "0002"), a_revision("0004", "0003"))
KNOWN = Known(arrived=("0004",), recorded=("0002",), proven={one.id: frozenset({OLD}) for one in CHAIN}, approved=True)
GOOD = Circumstances(
    policy=DowngradePolicy("if-needed"),
    known=KNOWN,
    old=OLD,
    chain=CHAIN,
    present=("0004",),
    written=(),
    others=(),
    old_is_well=False,
)


def known(**changes: object) -> dict[str, object]:
    return {"known": replace(KNOWN, **changes)}  # type: ignore[arg-type]


def undoing(value: Undoing | None) -> dict[str, object]:
    """The newer of both revisions goes back in another way."""
    return {"chain": (CHAIN[0], replace(CHAIN[1], undoing=value))}


# Condition, what speaks against it, its reason. One line for each way in which it can fail.
AGAINST = [
    ("allowed", {"policy": DowngradePolicy()}, "the environment's file does not allow it ([downgrade] allow)"),
    ("approved", known(approved=False), "the rollout went without a person's approval"),
    ("recorded", known(recorded=None), "nobody has told where the database stood before"),
    ("recorded", known(recorded=("0001", "0002")), "the database stood at 0001 and 0002, expected one revision"),
    ("recorded", {"chain": None}, "what lies between 0002 and the release's schema was not read when it was published"),
    ("ours", {"present": None}, "where the database is now cannot be told"),
    ("ours", {"present": ()}, "the database is at nothing, where this rollout did not bring it"),
    ("ours", {"present": ("0009",)}, "the database is at 0009, where this rollout did not bring it"),
    ("ours", {"present": ("0003", "0004")}, "the database is at 0003 and 0004, where this rollout did not bring it"),
    ("needed", {"old_is_well": True}, f"{OLD} is well on the new schema"),
    ("needed", {"old_is_well": None}, f"whether {OLD} is well on the new schema cannot be told"),
    ("reversible", undoing(None), "revision 0004 does not say `reversible: yes`"),
    (
        "reversible",
        {"chain": (CHAIN[0], a_revision("0004", "0003", "0000"))},
        "revision 0004 comes after 0003 and 0000, expected one revision",
    ),
    (
        "safe",
        undoing(Undoing((OBJECTION,))),
        f"{UNNOTICED}: statement 1, drop-column [ACCESS EXCLUSIVE on rooms]: it is read. Instead: expand first",
    ),
    (
        "safe",
        undoing(Undoing((replace(OBJECTION, safety=Safety.NOT_JUDGED, rule="squawk", lock=Lock.NONE, statement=0, alternative=""),))),
        f"{UNNOTICED}: squawk: it is read",
    ),
    ("lossless", undoing(Undoing(opaque="DELETE FROM rooms")), "what taking revision 0004 back loses cannot be told: DELETE FROM rooms"),
    ("lossless", {"written": None}, "whether anything was written that would be lost cannot be told"),
    ("lossless", {"written": ("rooms.floor", "halls")}, "rooms.floor and halls would be lost with what was written there"),
    (
        "proven",
        known(proven={"0004": frozenset({OLD})}),
        f"{OLD} was not tried on a copy of the database from which revision 0003 had been taken back",
    ),
    (
        "proven",
        known(proven={"0003": frozenset({OLD}), "0004": frozenset({"v1.0.0-10aaaaaa"})}),
        f"{OLD} was not tried on a copy of the database from which revision 0004 had been taken back",
    ),
    ("deserted", {"others": None}, "who still runs cannot be told"),
    ("deserted", {"others": ("v1.2.0-12aaaaaa", "another migration")}, "v1.2.0-12aaaaaa and another migration still there"),
]
OF_REVISIONS = {"reversible", "safe", "lossless", "proven"}


def test_it_goes_back_when_every_condition_holds() -> None:
    decision = may_downgrade(GOOD)
    assert decision.granted
    assert [one.name for one in decision.conditions] == list(CONDITIONS)
    assert decision.sentence() == "every condition holds"


def test_there_is_a_way_to_fail_for_every_condition() -> None:
    assert {name for name, _, _ in AGAINST} == set(CONDITIONS)


@pytest.mark.parametrize(("condition", "changes", "reason"), AGAINST)
def test_each_condition_alone_keeps_the_schema_and_says_why(condition: str, changes: dict[str, object], reason: str) -> None:
    decision = may_downgrade(replace(GOOD, **changes))  # type: ignore[arg-type]
    assert not decision.granted
    failing = {one.name: one.reason for one in decision.conditions if not one.holds}
    assert failing.pop(condition) == reason
    assert decision.sentence().startswith(f"{condition}: {reason}")
    if condition == "recorded" and "ours" in failing:  # who does not know where it stood cannot say who brought it here
        failing.pop("ours")
    unknown = () if replace(GOOD, **changes).undone else OF_REVISIONS  # type: ignore[arg-type]
    assert failing == dict.fromkeys(unknown, "what would be taken back is not known")


def test_whatever_fails_together_with_whatever_is_told_and_keeps_the_schema() -> None:
    """All 1,023 sets of conditions that fail, each by one of its ways."""
    ways = {
        "allowed": {},
        "approved": {"approved": False},
        "recorded": {"recorded": ("0001", "0002")},
        "ours": {"present": ("0004", "0009")},
        "needed": {"old_is_well": True},
        "reversible": {},
        "safe": {},
        "lossless": {"written": ("rooms.floor",)},
        "proven": {"proven": {}},
        "deserted": {"others": ("v1.2.0-12aaaaaa",)},
    }
    assert tuple(ways) == CONDITIONS
    for count in range(1, len(CONDITIONS) + 1):
        for failing in combinations(CONDITIONS, count):
            own = {key: value for name in failing for key, value in ways[name].items()}
            of_journal = {key: own.pop(key) for key in ("approved", "recorded", "proven") if key in own}
            first = Undoing((OBJECTION,) if "safe" in failing else ())
            last = None if "reversible" in failing else GOES_BACK
            circumstances = replace(
                GOOD,
                policy=DowngradePolicy("never" if "allowed" in failing else "if-needed"),
                known=replace(KNOWN, **of_journal),  # type: ignore[arg-type]
                chain=(replace(CHAIN[0], undoing=first), replace(CHAIN[1], undoing=last)),
                **own,  # type: ignore[arg-type]
            )
            decision = may_downgrade(circumstances)
            # Where nothing is allowed nobody asks for a need.
            expected = [name for name in failing if not (name == "needed" and "allowed" in failing)]
            assert [one.name for one in decision.conditions if not one.holds] == expected
            assert not decision.granted
            more = f" (and {len(expected) - 1} more)" if expected[1:] else ""
            assert decision.sentence().startswith(f"{expected[0]}: ")
            assert decision.sentence().endswith(more)


def test_if_safe_asks_for_no_need_and_nobody_asked_is_no_refusal() -> None:
    assert may_downgrade(replace(GOOD, policy=DowngradePolicy("if-safe"), old_is_well=True, **known(approved=None))).granted  # type: ignore[arg-type]


def test_what_was_taken_back_already_is_not_asked_about_again() -> None:
    half_way = replace(GOOD, present=("0003",), **undoing(Undoing((OBJECTION,), opaque="DELETE FROM rooms")))  # type: ignore[arg-type]
    assert [one.id for one in half_way.undone] == ["0003"]
    assert may_downgrade(half_way).granted


def test_the_newest_is_taken_back_first_and_each_loss_told_once() -> None:
    assert [one.id for one in taken_back(CHAIN, ("0004",))] == ["0004", "0003"]
    assert taken_back(CHAIN, ("0002",)) == ()
    assert losses(CHAIN) == (Loss("rooms", "floor"),)
    assert losses(None) == ()
