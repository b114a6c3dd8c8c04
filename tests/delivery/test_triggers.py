import math
from collections.abc import Iterable
from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from delivery.triggers import Metric, Sample, Trigger, breach_since, fires_at

ERRORS = Trigger("error_rate", threshold=0.05, for_seconds=120)


def every(seconds: float, values: Iterable[float | None], *, start: float = 0) -> list[Sample]:
    return [Sample(start + number * seconds, value) for number, value in enumerate(values)]


CASES: list[tuple[str, Trigger, list[Sample], float | None]] = [
    ("a steady breach fires at the first sample that is 120 s old", ERRORS, every(15, [0.06] * 12), 120),
    ("119 s are not 120 s", ERRORS, every(17, [0.06] * 8), None),
    ("exactly the threshold is no breach", ERRORS, every(15, [0.05] * 20), None),
    ("no samples never fire", ERRORS, [], None),
    ("one good sample starts the time anew", ERRORS, every(15, [0.06] * 7 + [0.04] + [0.06] * 9), 240),
    ("a breach that begins late counts from its own first sample", ERRORS, every(15, [0.01] * 4 + [0.06] * 9), 180),
    ("a gap of exactly the longest allowed is bridged", ERRORS, [*every(15, [0.06] * 4), *every(15, [0.06] * 6, start=90)], 120),
    ("a longer gap starts the time anew", ERRORS, [*every(15, [0.06] * 4), *every(15, [0.06] * 13, start=105)], 225),
    ("two samples 120 s apart say nothing about the time between", ERRORS, [Sample(0, 0.5), Sample(120, 0.5)], None),
    ("an unknown sample neither breaks nor recovers", ERRORS, every(15, [0.06, 0.06, None, 0.06, math.nan, 0.06, 0.06, 0.06, 0.06]), 120),
    ("unknown samples do not bridge a long gap", ERRORS, every(15, [0.06, None, None, None, 0.06, 0.06, 0.06, 0.06, 0.06]), None),
    ("it never fires at an unknown sample", ERRORS, every(15, [0.06] * 8 + [None, 0.06]), 135),
    ("silence alone never fires", ERRORS, every(15, [None] * 40), None),
    ("after a gap a good sample comes first", ERRORS, [Sample(0, 0.06), Sample(60, 0.01), *every(15, [0.06] * 9, start=75)], 195),
    ("samples are put in order", ERRORS, list(reversed(every(15, [0.06] * 9))), 120),
    ("the last of several at one time wins, here the good one", ERRORS, [*every(15, [0.06] * 9), Sample(60, 0.01)], None),
    ("the last of several at one time wins, here the bad one", ERRORS, [Sample(60, 0.01), *every(15, [0.06] * 9)], 120),
    ("nought seconds fire at the first breach", Trigger("restarts", 0, 0), every(5, [0, 0, 1]), 10),
    ("slow answers held for 180 s", Trigger("p95_ms", 3000, 180), every(15, [2900] * 4 + [3001] * 13), 240),
    ("a busy CPU scraped every 30 s", Trigger("cpu", 0.9, 300), every(30, [0.95] * 11), 300),
    ("a CPU scraped every 60 s is never proven busy by a gap limit of 45 s", Trigger("cpu", 0.9, 300), every(60, [0.95] * 11), None),
    ("a wider gap limit proves it", Trigger("cpu", 0.9, 300, max_gap_seconds=60), every(60, [0.95] * 11), 300),
    ("a database that is lost for 30 s", Trigger("database_lost", 0.5, 30), every(5, [0, 1, 1, 1, 1, 1, 1, 1]), 35),
    ("times need not begin at nought", ERRORS, every(15, [0.06] * 9, start=1_700_000_000.5), 1_700_000_120.5),
]


@pytest.mark.parametrize(("trigger", "samples", "expected"), [case[1:] for case in CASES], ids=[case[0] for case in CASES])
def test_a_trigger_fires_where_its_case_says(trigger: Trigger, samples: list[Sample], expected: float | None) -> None:
    assert fires_at(trigger, samples) == expected


def by_definition(trigger: Trigger, samples: list[Sample]) -> float | None:
    """The definition, written as slowly as it reads: some unbroken run of known breaching samples is long enough."""
    last_of_each_time = {sample.at: sample.value for sample in samples}
    known = [(at, value) for at, value in sorted(last_of_each_time.items()) if value is not None]
    for end, (fired, _) in enumerate(known):
        for begin in range(end + 1):
            run = known[begin : end + 1]
            unbroken = all(later - earlier <= trigger.max_gap_seconds for (earlier, _), (later, _) in pairwise(run))
            if unbroken and all(value > trigger.threshold for _, value in run) and fired - run[0][0] >= trigger.for_seconds:
                return fired
    return None


sample_lists = st.lists(
    st.builds(Sample, at=st.integers(0, 40).map(lambda tick: tick * 5.0), value=st.sampled_from([None, 0.0, 0.05, 0.06, 1.0])), max_size=40
)
triggers = st.builds(
    Trigger,
    metric=st.just("error_rate"),
    threshold=st.just(0.05),
    for_seconds=st.sampled_from([0.0, 5.0, 20.0, 60.0]),
    max_gap_seconds=st.sampled_from([5.0, 15.0, 45.0]),
)


@given(trigger=triggers, samples=sample_lists)
def test_every_trigger_agrees_with_the_definition(trigger: Trigger, samples: list[Sample]) -> None:
    assert fires_at(trigger, samples) == by_definition(trigger, samples)


@given(trigger=triggers, samples=sample_lists, data=st.data())
def test_the_order_of_arrival_does_not_matter(trigger: Trigger, samples: list[Sample], data: st.DataObject) -> None:
    one_per_time = list({sample.at: sample for sample in samples}.values())
    shuffled = data.draw(st.permutations(one_per_time))
    assert fires_at(trigger, shuffled) == fires_at(trigger, one_per_time)


@given(trigger=triggers, samples=sample_lists)
def test_what_comes_after_the_firing_does_not_undo_it(trigger: Trigger, samples: list[Sample]) -> None:
    fired = fires_at(trigger, samples)
    if fired is not None:
        assert fires_at(trigger, [*samples, Sample(500.0, 0.0)]) == fired


@pytest.mark.parametrize(
    ("values", "since"), [([0.06, 0.06], 0), ([0.06, 0.01], None), ([0.01, 0.06, None], 15), ([0.06, None], 0), ([None], None)]
)
def test_a_breach_under_way_is_known_by_its_beginning(values: list[float | None], since: float | None) -> None:
    assert breach_since(ERRORS, every(15, values)) == (since, None)


SENTENCES: list[tuple[Metric, float, float, float, str]] = [
    ("error_rate", 0.05, 45, 0.0812, "error rate 8.12 % is above 5 % for 45 s"),
    ("p95_ms", 3000, 180, 3210.4, "p95 response time 3210 ms is above 3000 ms for 180 s"),
    ("memory", 0.85, 300, 0.9, "memory 90 % is above 85 % for 300 s"),
    ("restarts", 0, 0, 2, "restarts 2 is above 0 for 0 s"),
]


@pytest.mark.parametrize(("metric", "threshold", "seconds", "value", "sentence"), SENTENCES)
def test_a_firing_says_what_happened(metric: Metric, threshold: float, seconds: float, value: float, sentence: str) -> None:
    assert Trigger(metric, threshold, seconds).sentence(value) == sentence
