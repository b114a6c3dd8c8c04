"""What a copy measured, scaled to the rows of production: a range where both are known, unknown where one is not."""

from datetime import date

import pytest
from hypothesis import given
from hypothesis import strategies as st

from delivery.durations import LEAST, MOST, Estimate, Measured, Size, Work, estimates, measured_in, objections, total, total_sentence
from delivery.operations import Lock, MigrationWaiver

TODAY = date(2026, 8, 1)


def measured(**changes: object) -> Measured:
    told = {"revision": "0003", "sql": "ALTER TABLE rooms ADD CONSTRAINT c CHECK (fee > 0)", "seconds": 0.1, "table": "rooms"}
    [one] = measured_in([{**told, "rows": 100_000, "touched": 100_000, "lock": "ACCESS EXCLUSIVE", "rewrites": False, **changes}])
    return one


def scaled(there: int | None, /, **changes: object) -> Estimate:
    [one] = estimates([measured(**changes)], {"rooms": Size(there, 8_000_000)})
    return one


def test_the_seconds_of_the_copy_grow_with_the_rows_and_are_told_as_a_range():
    one = scaled(1_000_000)
    assert one.likely == pytest.approx(1.0)
    assert one.bounds == pytest.approx((0.5, 3.0))
    assert one.sentence() == "500 ms to 3.0 s (scan of 1,000,000 rows; 100 ms with 100,000 on the copy)"


@given(st.floats(1e-6, 1e4), st.integers(1_000, 10**9), st.integers(0, 10**10), st.integers(0, 10**10))
def test_more_rows_never_take_less_and_the_range_holds_what_is_likely(seconds: float, copy: int, few: int, many: int):
    few, many = sorted((few, many))
    less, more = (scaled(rows, seconds=seconds, rows=copy) for rows in (few, many))
    assert less.likely is not None
    assert more.likely is not None
    assert less.likely <= more.likely
    assert more.bounds == (LEAST * more.likely, MOST * more.likely)
    assert less.likely > 0
    assert more.is_long or not less.is_long


@given(st.sampled_from(["nobody asked", "no such table", "never analyzed"]), st.floats(0, 1e4), st.integers(1, 10**9))
def test_unknown_rows_are_unknown_and_never_a_number(missing: str, seconds: float, copy: int):
    sizes = {"nobody asked": None, "no such table": {}, "never analyzed": {"rooms": Size(None, 8192)}}[missing]
    [one] = estimates([measured(seconds=seconds, rows=copy)], sizes)
    assert (one.likely, one.bounds, total([one])) == (None, None, None)
    assert one.sentence().startswith("unknown: ")
    assert one.is_long  # nobody knows that readers wait only briefly


@given(st.integers(0, 10**9), st.one_of(st.none(), st.integers(0, 0)))
def test_a_copy_that_is_empty_or_unknown_says_nothing_of_rows(rows: int, copy: int | None):
    one = scaled(rows, rows=copy)
    assert (one.likely is None) == (copy is None or rows > 0)


def test_a_few_rows_on_the_copy_say_nothing_of_many():
    assert "unknown: 50 rows of rooms on the copy say nothing of 1,000,000" in scaled(1_000_000, rows=50).sentence()
    assert scaled(400, rows=50).likely == pytest.approx(0.8)


def test_metadata_takes_the_same_on_any_number_of_rows_and_needs_nobodys_answer():
    for sizes in (None, {}, {"rooms": Size(10**9, None)}):
        [one] = estimates([measured(touched=0, seconds=0.02)], sizes)
        assert (one.measured.work, one.likely, one.is_long, one.warns) == (Work.METADATA, 0.02, False, False)


def test_what_touched_nothing_since_the_table_was_empty_is_no_metadata_where_the_text_says_otherwise():
    assert measured(rows=0, touched=0).work is Work.SCAN
    assert measured(rows=0, touched=0, sql="ALTER TABLE rooms ADD COLUMN floor int").work is Work.METADATA


@pytest.mark.parametrize(
    ("sql", "changes", "work", "lock"),
    [
        ("CREATE INDEX CONCURRENTLY i ON rooms (fee)", {"touched": None}, Work.INDEX, Lock.SHARE_UPDATE_EXCLUSIVE),
        ("ALTER TABLE rooms VALIDATE CONSTRAINT c", {"touched": None}, Work.SCAN, Lock.SHARE_UPDATE_EXCLUSIVE),
        ("ALTER TABLE rooms ADD UNIQUE (fee)", {}, Work.INDEX, Lock.ACCESS_EXCLUSIVE),
        ("ALTER TABLE rooms ALTER id TYPE bigint", {"rewrites": True}, Work.REWRITE, Lock.ACCESS_EXCLUSIVE),
    ],
)
def test_the_class_is_told_by_what_was_seen_and_by_the_text_where_nothing_could_be_seen(
    sql: str, changes: dict[str, object], work: Work, lock: Lock
):
    one = measured(sql=sql, **changes)
    assert (one.work, one.lock) == (work, lock)


def test_a_rewrite_needs_twice_its_size_of_disk():
    assert scaled(1, rewrites=True).disk_bytes == 16_000_000
    assert scaled(1).disk_bytes == 0
    assert estimates([measured(rewrites=True)], {})[0].disk_bytes is None


def test_a_second_under_access_exclusive_is_objected_to_and_a_waiver_answers_for_it():
    waiver = MigrationWaiver(rule="duration", table="rooms", reason="at night", owner="Bea", until=TODAY)
    found = [scaled(1_100_000), scaled(900_000), scaled(10**9, lock="SHARE")]
    [stops] = objections(found, [], today=TODAY)
    assert (stops.rule, stops.table, stops.stops) == ("duration", "rooms", True)
    [answered] = objections(found, [waiver], today=TODAY)
    assert not answered.stops


def test_ten_minutes_for_which_nobody_waits_are_only_warned_of():
    online = scaled(10**9, sql="CREATE INDEX CONCURRENTLY i ON rooms (fee)", touched=None)
    assert (online.warns, online.is_long) == (True, False)
    assert not scaled(10**8, sql="CREATE INDEX CONCURRENTLY i ON rooms (fee)", touched=None).warns


def test_a_whole_of_which_one_part_is_unknown_is_unknown():
    assert total_sentence(()) == ""
    assert total_sentence([scaled(1_000_000), scaled(1_000_000)]) == "Its migrations take 1.0 s to 6.0 s here, by a copy's measure."
    assert total_sentence([scaled(10), scaled(None)]).startswith("How long its migrations take here is unknown: nobody knows how many")


@pytest.mark.parametrize(
    "told", [None, "text", [None], [{}], [{"sql": "SELECT 1", "seconds": "0"}], [{"sql": "x", "seconds": float("nan")}]]
)
def test_what_does_not_read_as_a_measurement_is_none(told: object):
    assert measured_in(told) == ()
