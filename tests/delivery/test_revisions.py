from dataclasses import replace
from datetime import date

import pytest

from delivery.operations import Lock, MigrationWaiver, Operation, Safety
from delivery.revisions import Chain, MigrationReview, ReviewedRevision, RevisionFile, admit

TODAY = date(2026, 7, 1)
RENAME = Operation(2, "ALTER …", "rename", Safety.UNSAFE, Lock.ACCESS_EXCLUSIVE, "rooms", "it is read", "expand, then contract.")
OPAQUE = replace(RENAME, rule="opaque", safety=Safety.NEEDS_CLONE, reason="a DO block may do anything")
WAIVER = MigrationWaiver(rule="rename", table="rooms", reason="nobody reads it", owner="Bea", until=date(2026, 7, 31))


def a_chain(*names: str) -> Chain:
    links = zip((None, *names), names, strict=False)
    return Chain(names[-1:], tuple(RevisionFile(name, (down,) if down else (), f"hash of {name}") for down, name in links))


def a_review(*operations: Operation) -> MigrationReview:
    """0002 and 0003 come after 0001; `operations` are 0003's."""
    return MigrationReview(
        ("0003",),
        (
            ReviewedRevision("0002", ("0001",), "b", "", "SELECT 1", ()),
            ReviewedRevision("0003", ("0002",), "c", "", "SELECT 1", operations),
        ),
    )


def test_pending_is_what_comes_after_the_recorded_revision() -> None:
    chain = a_chain("0001", "0002", "0003")
    assert [one.id for one in chain.pending(("0001",))] == ["0002", "0003"]
    assert (len(chain.pending(())), chain.pending(("0003",))) == (3, ())


def test_a_recorded_revision_that_the_image_lacks_is_strange() -> None:
    assert a_chain("0001", "0002").strange(("0002", "0009")) == ("0009",)


def test_a_file_that_is_another_one_than_was_applied_was_edited() -> None:
    chain = a_chain("0001", "0002")
    assert chain.edited({"0001": "hash of 0001", "0002": "another", "0009": "gone"}) == ("0002",)


@pytest.mark.parametrize(
    ("recorded", "pending"),
    [(("0001",), ["0002", "0003"]), (("0002",), ["0003"]), (("0003",), []), (("0000",), None), ((), None), (("0001", "0009"), None)],
)
def test_a_review_tells_what_is_pending_only_from_where_it_begins(recorded: tuple[str, ...], pending: list[str] | None) -> None:
    found = a_review().pending(recorded)
    assert (found if found is None else [one.id for one in found]) == pending


def refused(review: MigrationReview | None, recorded: tuple[str, ...] | None = ("0001",), **changes: object) -> str:
    asked = {"recorded": recorded, "serves": "v1.1.0", "waivers": (), "today": TODAY, **changes}
    return admit(review, **asked).refusal  # type: ignore[arg-type]


def test_an_unsafe_revision_is_refused_with_its_rule_and_lock() -> None:
    assert refused(a_review(RENAME)) == (
        "revision 0003 may not run while v1.1.0 serves: statement 2, rename [ACCESS EXCLUSIVE on rooms]: it is read. "
        "Instead: expand, then contract"
    )


def test_where_no_version_serves_nobody_can_notice_a_migration() -> None:
    assert refused(a_review(RENAME), serves=None) == ""


def test_what_is_applied_already_is_nobodys_business() -> None:
    assert refused(a_review(RENAME), ("0003",)) == ""


def test_what_nobody_has_read_is_refused() -> None:
    assert refused(None) == "nobody has read its migrations"
    assert refused(a_review(), ("0000",)) == "its migrations were not read from there on (0000)"
    assert refused(a_review(), None) == "its migrations were not read from there on (no revision that is known here)"


def test_a_waiver_lets_it_through_until_its_last_day_and_is_shown() -> None:
    told = admit(a_review(RENAME), recorded=("0001",), serves="v1.1.0", waivers=[WAIVER], today=WAIVER.until)
    assert (told.refusal, told.revisions[1].operations[0].waiver) == ("", WAIVER)
    assert "may not run" in refused(a_review(RENAME), waivers=[WAIVER], today=date(2026, 8, 1))


@pytest.mark.parametrize("other", [replace(WAIVER, rule="drop-column"), replace(WAIVER, table="halls"), replace(WAIVER, reason=" ")])
def test_a_waiver_of_something_else_or_without_a_reason_covers_nothing(other: MigrationWaiver) -> None:
    assert "may not run" in refused(a_review(RENAME), waivers=[other])


def test_what_needs_the_clone_is_settled_by_a_run_there_and_nothing_else_is() -> None:
    assert "needs the clone: statement 2, opaque" in refused(a_review(OPAQUE))
    assert refused(a_review(OPAQUE), on_a_clone={"0003"}) == ""
    assert "rename" in refused(a_review(OPAQUE, RENAME), on_a_clone={"0003"})


def test_the_way_out_names_each_rule_once() -> None:
    linted = replace(RENAME, rule="squawk:renaming-column", table="")
    told = admit(a_review(RENAME, linted, RENAME), recorded=("0001",), serves="v1.1.0", waivers=[], today=TODAY)
    assert "waive rename on rooms, squawk:renaming-column on * with [[waiver]]" in told.way_out
