from math import inf

import pytest
from hypothesis import given
from hypothesis import strategies as st

from delivery.counters import common_bounds, counts, grown, growth, shares
from delivery.evidence import Counts
from delivery.health import Counters


def replica(ok: float, bad: float, *, fast: float, slow: float) -> Counters:
    return Counters({200: ok, 500: bad}, {0.1: fast, inf: fast + slow})


NOUGHT = replica(0, 0, fast=0, slow=0)

CASES = [
    ("counters that rose grew by the difference", replica(90, 10, fast=80, slow=20), replica(95, 12, fast=84, slow=23), (5, 2)),
    ("counters that fell together start from nought", replica(90, 10, fast=80, slow=20), replica(7, 1, fast=5, slow=3), (7, 1)),
    ("a counter that has always been nought need not fall", replica(90, 0, fast=80, slow=10), replica(7, 1, fast=5, slow=3), (7, 1)),
    ("some that fell and others that rose mean nothing", replica(90, 10, fast=80, slow=20), replica(7, 12, fast=5, slow=3), None),
    ("the first requests of a replica", NOUGHT, replica(7, 1, fast=5, slow=3), (7, 1)),
    ("nothing happened", NOUGHT, NOUGHT, (0, 0)),
]


@pytest.mark.parametrize(("before", "now", "expected"), [case[1:] for case in CASES], ids=[case[0] for case in CASES])
def test_growth_between_two_scrapes(before: Counters, now: Counters, expected: tuple[int, int] | None):
    found = growth(before, now)
    assert (None if found is None else (found.by_code[200], found.by_code[500])) == expected


def test_resets_are_seen_per_replica_before_anything_is_summed():
    before = {"a": replica(1000, 0, fast=1000, slow=0), "b": replica(50, 0, fast=50, slow=0)}
    now = {"a": replica(3, 0, fast=3, slow=0), "b": replica(2000, 1, fast=2001, slow=0)}  # the sums would hide the reset of a
    found, _ = grown(before, now)
    assert counts(found, [0.1]) == Counts(3 + 1951, 1, (3 + 1951, 0))


def test_a_missed_scrape_comes_with_the_next_one():
    first = {"a": replica(10, 0, fast=10, slow=0), "b": replica(10, 0, fast=10, slow=0)}
    second = {"a": replica(20, 0, fast=20, slow=0)}
    third = {"a": replica(30, 0, fast=30, slow=0), "b": replica(40, 0, fast=40, slow=0)}
    some, kept = grown(first, second)
    rest, _ = grown(kept, third)
    assert (some.requests, rest.requests) == (10, 10 + 30)


def test_a_replica_seen_for_the_first_time_gives_its_starting_point_only():
    found, kept = grown({}, {"a": replica(1_000_000, 7, fast=1, slow=0)})
    assert found.requests == 0
    assert set(kept) == {"a"}


def test_buckets_that_the_colours_do_not_share_melt_into_their_neighbours():
    green = Counters({200: 10}, {0.1: 4, 0.25: 7, 1.0: 9, inf: 10})
    blue = Counters({200: 10}, {0.1: 5, 0.5: 7, 1.0: 10, inf: 10})
    assert (bounds := common_bounds(green, blue)) == (0.1, 1.0)
    assert counts(green, bounds).buckets == (4, 5, 1)
    assert counts(blue, bounds).buckets == (5, 5, 0)


@given(st.lists(st.integers(0, 100), min_size=2, max_size=6))
def test_no_bucket_is_ever_negative(cumulative: list[int]):
    bounds = [float(number + 1) for number in range(len(cumulative) - 1)]
    found = counts(Counters({200: 1}, dict(zip([*bounds, inf], map(float, cumulative), strict=True))), bounds)
    assert min(found.buckets) >= 0
    assert sum(found.buckets) == max(cumulative)


def test_shares_of_buckets_sum_to_one_also_when_nothing_was_seen():
    assert shares(Counts(4, 0, (1, 3, 0))) == (0.25, 0.75, 0.0)
    assert shares(Counts(0, 0, (0, 0))) == (0.5, 0.5)
