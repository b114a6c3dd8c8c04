import json
import math
import time
from collections.abc import Iterable
from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import TypeAdapter

from delivery.canary import Context, Decision, JudgePolicy, Look, State
from delivery.errors import InvalidSettings
from delivery.evidence import Counts, Pair
from delivery.judge import Judge
from delivery.verdict import Verdict

BOUNDS = (0.05, 0.1, 0.25, 1.0)
BASE = (0.1, 0.4, 0.4, 0.09, 0.01)
SLOW = (0.05, 0.25, 0.45, 0.2, 0.05)
CONTEXT = Context(look_seconds=60, looks_planned=60, bounds=BOUNDS, base=BASE)
JUDGE = Judge(CONTEXT)
STATES = TypeAdapter(State)


def answered(requests: int, errors: int, shares: tuple[float, ...] = BASE) -> Counts:
    """Exactly as many in each bucket as its share says."""
    buckets = [round(requests * share) for share in shares]
    return Counts(requests, errors, (requests - sum(buckets[1:]), *buckets[1:]))


def look(number: int, green: Counts, blue: Counts, **more: object) -> Look:
    return replace(Look(number, 60.0, Pair(green, blue)), **more)  # type: ignore[arg-type]


def alike(number: int, requests: int = 3000, errors: int = 6, **more: object) -> Look:
    return look(number, answered(requests, errors), answered(requests, errors), **more)


def judged(looks: Iterable[Look], judge: Judge = JUDGE, state: State | None = None) -> tuple[State, list[Verdict]]:
    state, verdicts = state or State(), []
    for one in looks:
        state, verdict = judge.look(state, one)
        verdicts.append(verdict)
    return state, verdicts


def decisions(looks: Iterable[Look], judge: Judge = JUDGE) -> list[str]:
    return [verdict.decision.value for verdict in judged(looks, judge)[1]]


def test_a_release_that_is_alike_is_promoted_at_the_sixth_look_and_not_before():
    assert decisions(alike(number) for number in range(1, 8)) == ["CONTINUE"] * 5 + ["PROMOTE"] * 2


def test_a_release_that_errs_ten_times_as_often_goes_back_at_the_first_look():
    state, [verdict] = judged([look(1, answered(3000, 60), answered(3000, 6))])
    assert verdict.decision is Decision.ROLLBACK
    assert verdict.evidence >= 100
    assert verdict.reason.startswith("green answers 2 % errors, blue 0.2 %; 6,000 requests; evidence ")
    assert verdict.reason.endswith(":1; rolled back")
    assert state.final is Decision.ROLLBACK


def test_slower_answers_bring_the_release_back_after_the_warm_up():
    slower = [look(number, answered(3000, 6, SLOW), answered(3000, 6)) for number in (1, 2)]
    _, [first, second] = judged(slower)
    assert (first.decision, first.evidence) == (Decision.CONTINUE, pytest.approx(1, abs=0.5))
    assert second.decision is Decision.ROLLBACK
    assert second.reason.startswith("70 % of green's answers take longer than 100 ms, 50 % of blue's; 12,000 requests; evidence ")


def test_a_cold_start_excuses_latency_and_never_errors():
    cold = look(1, answered(3000, 6, SLOW), answered(3000, 6))
    assert decisions([cold, *(alike(number) for number in range(2, 7))]) == ["CONTINUE"] * 5 + ["PROMOTE"]
    assert decisions([look(1, answered(3000, 66, SLOW), answered(3000, 6))]) == ["ROLLBACK"]


def test_the_warm_up_is_a_time_so_that_short_looks_have_several():
    short = Judge(replace(CONTEXT, look_seconds=15))
    slow_first = [look(number, answered(3000, 6, SLOW), answered(3000, 6), seconds=15.0) for number in range(1, 5)]
    assert decisions(slow_first, short) == ["CONTINUE"] * 4
    assert decisions([*slow_first, look(5, answered(3000, 6, SLOW), answered(3000, 6), seconds=15.0)], short)[-1] == "ROLLBACK"


def test_what_hits_both_colours_alike_is_no_evidence():
    burst = look(3, answered(3000, 600, SLOW), answered(3000, 600, SLOW))
    _, verdicts = judged([alike(1), alike(2), burst, *(alike(number) for number in range(4, 10))])
    assert max(verdict.evidence for verdict in verdicts) < 10
    assert Decision.ROLLBACK not in [verdict.decision for verdict in verdicts]


@pytest.mark.parametrize("share", [0.9, 0.5, 0.25, 0.1])
def test_the_observed_share_counts_not_a_configured_one(share: float):
    green = round(20_000 * share)
    same_rate = [look(number, answered(green, green // 100), answered(20_000 - green, (20_000 - green) // 100)) for number in range(1, 7)]
    found = decisions(same_rate)
    assert "ROLLBACK" not in found
    assert found[-1] == "PROMOTE"


def test_nothing_is_promoted_on_silence():
    silent = [look(number, Counts(0, 0, (0,) * 5), answered(6000, 12)) for number in range(1, 61)]
    _, verdicts = judged(silent)
    assert [verdict.decision.value for verdict in verdicts] == ["CONTINUE"] * 59 + ["INCONCLUSIVE"]
    assert verdicts[0].reason == "no requests reach green; goes on"
    assert verdicts[-1].evidence == pytest.approx(1)


def test_few_requests_are_inconclusive_at_the_deadline():
    few = [look(number, answered(1, 0), answered(11, 0)) for number in range(1, 61)]
    _, verdicts = judged(few)
    assert verdicts[-1].decision is Decision.INCONCLUSIVE
    assert "60 of the 500 requests needed" in verdicts[-1].reason


def test_after_the_deadline_nothing_is_promoted_any_more():
    judge = Judge(replace(CONTEXT, looks_planned=5))
    assert decisions([alike(number) for number in range(1, 9)], judge) == ["CONTINUE"] * 4 + ["INCONCLUSIVE"] * 4


def test_a_look_of_one_colour_waits_for_the_other_one():
    green, blue = answered(3000, 60), answered(3000, 6)
    together, _ = judged([look(1, green, blue)])
    apart, [waiting, late] = judged([look(1, Counts(), blue), look(2, green, Counts())])
    assert (waiting.decision, waiting.reason) == (Decision.CONTINUE, "no requests reach green; goes on")
    assert late.decision is Decision.ROLLBACK
    assert apart.errors.totals.green.errors == together.errors.totals.green.errors
    assert apart.errors.worse.total == pytest.approx(together.errors.worse.total)


def test_a_missed_scrape_is_held_and_comes_with_the_next_look():
    lost = Look(2, 60.0, lost=True)
    merged = look(3, answered(6000, 12), answered(6000, 12))
    _, verdicts = judged([alike(1), lost, merged])
    assert [verdict.decision.value for verdict in verdicts] == ["CONTINUE", "HOLD", "CONTINUE"]
    assert verdicts[1].reason.endswith("the metrics could not be read; held")


def test_a_group_that_is_sick_is_found_and_named():
    endpoints = {"GET /listings": Pair(Counts(2970, 6), Counts(2970, 6)), "POST /listings": Pair(Counts(30, 9), Counts(30, 0))}
    _, verdicts = judged([look(number, answered(3000, 15), answered(3000, 6), groups=endpoints) for number in (1, 2)])
    assert verdicts[1].decision is Decision.ROLLBACK
    assert verdicts[1].reason.startswith("green answers 30 % errors on POST /listings, blue 0 %; 120 requests; evidence ")


def test_a_group_that_appears_later_takes_its_part_without_making_evidence():
    first = {"a": Pair(Counts(100, 0), Counts(100, 0))}
    later = first | {"b": Pair(Counts(100, 0), Counts(100, 0))}
    state, verdicts = judged([alike(1, groups=first), alike(2, groups=first), alike(3, groups=later)])
    assert [group.weight for group in state.groups.values()] == pytest.approx([0.5, 0.5])
    assert verdicts[-1].evidence <= verdicts[0].evidence + 1e-9


def test_a_group_that_is_not_in_a_look_is_not_forgotten():
    endpoints = {"a": Pair(Counts(30, 9), Counts(30, 0))}
    state, _ = judged([alike(1, groups=endpoints), alike(2)])
    assert state.groups["a"].totals.green.errors == 9


def test_a_trigger_goes_first():
    [verdict] = judged([alike(1, breach="memory 90 % is above 85 % for 300 s")])[1]
    assert verdict.decision is Decision.ROLLBACK
    assert "memory 90 % is above 85 % for 300 s; rolled back" in verdict.reason


def test_a_trigger_that_blue_breaches_too_holds_unless_the_policy_says_otherwise():
    both = alike(1, breach="CPU 95 % is above 90 % for 300 s", blue_breaches=True)
    assert decisions([both]) == ["HOLD"]
    assert decisions([both], Judge(CONTEXT, JudgePolicy(hold_when_both_breach=False))) == ["ROLLBACK"]


def test_sick_on_both_sides_is_held_and_inconclusive_at_the_deadline():
    sick = [alike(number, errors=240) for number in range(1, 61)]
    found = decisions(sick)
    assert found == ["CONTINUE"] + ["HOLD"] * 58 + ["INCONCLUSIVE"]


def test_green_that_is_worse_than_a_sick_blue_goes_back():
    assert "ROLLBACK" in decisions(look(number, answered(3000, 480), answered(3000, 240)) for number in range(1, 4))


def test_green_that_repairs_a_sick_blue_is_promoted():
    assert decisions(look(number, answered(3000, 6), answered(3000, 240)) for number in range(1, 7))[-1] == "PROMOTE"


def test_memory_that_grows_steadily_is_held_before_it_reaches_its_limit():
    looks = [alike(number, memory=(0.60 + 0.004 * number + 0.001 * (-1) ** number, 0.60)) for number in range(1, 17)]
    judge = Judge(replace(CONTEXT, promotion_enabled=False))
    _, verdicts = judged(looks, judge)
    assert [verdict.decision.value for verdict in verdicts] == ["CONTINUE"] * 14 + ["HOLD"] * 2
    assert "green's memory grows and will pass 85 % of its limit in 48 min" in verdicts[14].reason
    both = [alike(number, memory=(0.60 + 0.004 * number, 0.60 + 0.004 * number)) for number in range(1, 17)]
    assert "HOLD" not in decisions(both, judge)


def test_promotion_that_is_not_enabled_does_not_happen():
    assert "PROMOTE" not in decisions((alike(number) for number in range(1, 60)), Judge(replace(CONTEXT, promotion_enabled=False)))


def test_rollback_wins_and_stays_whatever_follows():
    bad = look(1, answered(3000, 60), answered(3000, 6))
    assert decisions([bad, *(alike(number) for number in range(2, 61))]) == ["ROLLBACK"] * 60


def test_rollback_wins_over_promote_at_the_same_look():
    state, _ = judged(alike(number) for number in range(1, 6))
    _, ready = JUDGE.look(state, alike(6))
    assert ready.decision is Decision.PROMOTE
    _, breached = JUDGE.look(state, alike(6, breach="restarts 2 is above 0 for 0 s"))
    assert breached.decision is Decision.ROLLBACK
    _, worse = JUDGE.look(state, look(6, answered(3000, 90), answered(3000, 6)))
    assert (worse.decision, worse.not_worse >= 20) == (Decision.ROLLBACK, True)


def test_after_a_promotion_evidence_still_brings_it_back():
    found = decisions([*(alike(number) for number in range(1, 7)), look(7, answered(3000, 90), answered(3000, 6))])
    assert found[-2:] == ["PROMOTE", "ROLLBACK"]


def test_a_difference_that_does_not_matter_is_no_reason_however_certain():
    """5 % more errors, from 10 million requests: beyond doubt, and not worth a night's sleep."""
    tiny = [look(number, answered(10**7, 10_500), answered(10**7, 10_000)) for number in range(1, 20)]
    assert "ROLLBACK" not in decisions(tiny)


def test_a_tenth_more_errors_is_tolerated_however_certain():
    """That green is worse is proven beyond doubt; that it is worse by more than a tenth is not."""
    looks = [look(number, answered(10**7, 115_000), answered(10**7, 100_000)) for number in range(1, 60)]
    _, verdicts = judged(looks, Judge(replace(CONTEXT, promotion_enabled=False)))
    assert verdicts[-1].evidence > 10_000
    assert {verdict.decision.value for verdict in verdicts} == {"CONTINUE"}
    assert verdicts[-1].reason.endswith("green is worse, by too little to matter so far; goes on")
    much_more = [look(number, answered(10**7, 140_000), answered(10**7, 100_000)) for number in range(1, 20)]
    assert "ROLLBACK" in decisions(much_more)


def test_nobody_is_promoted_while_the_evidence_is_serious():
    state, _ = judged(alike(number) for number in range(1, 6))
    serious = [JUDGE.look(state, look(6, answered(3000, errors), answered(3000, 6)))[1] for errors in range(6, 60)]
    between = [verdict for verdict in serious if 10 <= verdict.evidence < 100]
    assert between
    assert {verdict.decision for verdict in between} == {Decision.CONTINUE}
    assert all(verdict.reason.endswith("green may be worse; goes on") for verdict in between)


def test_nobody_is_promoted_on_a_handful_of_requests():
    generous = Judge(CONTEXT, JudgePolicy(error_margin=0.2, slow_margin=0.3, median_margin=0.4))
    _, verdicts = judged((alike(number, requests=60, errors=0) for number in range(1, 10)), generous)
    assert [verdict.decision.value for verdict in verdicts] == ["CONTINUE"] * 8 + ["PROMOTE"]
    assert "green has answered 480 of the 500 requests needed" in verdicts[7].reason


def test_what_cannot_be_meant_is_refused_all_at_once():
    with pytest.raises(InvalidSettings) as refused:
        Judge(Context(look_seconds=0, looks_planned=0, bounds=(0.1, 0.05), base=(0.5, 0.6)))
    assert [line.partition(":")[0] for line in refused.value.what.splitlines()] == [
        "look_seconds",
        "looks_planned",
        "bounds",
        "base",
        "base",
    ]


def counts(buckets: int) -> st.SearchStrategy[Counts]:
    several = st.lists(st.sampled_from([0, 0, 1, 3, 50, 4000]), min_size=buckets, max_size=buckets).map(tuple)
    return st.builds(lambda some, bad: Counts(sum(some), round(bad * sum(some)), some), several, st.sampled_from([0, 0, 0.01, 0.3, 1]))


pairs = st.builds(Pair, counts(5), counts(5))
looks = st.lists(
    st.builds(
        Look,
        number=st.just(0),
        seconds=st.sampled_from([15.0, 60.0, 61.5]),
        counts=pairs,
        groups=st.dictionaries(st.sampled_from("abc"), pairs.map(Pair.without_buckets)),
        memory=st.none() | st.tuples(st.floats(0, 1), st.floats(0, 1)),
        breach=st.sampled_from([None, None, None, None, "memory 90 % is above 85 % for 300 s"]),
        blue_breaches=st.booleans(),
        lost=st.sampled_from([False, False, False, True]),
    ),
    max_size=12,
).map(lambda several: [replace(one, number=number) for number, one in enumerate(several, 1)])


@given(looks)
def test_a_judge_that_is_put_away_after_each_look_says_the_same(several: list[Look]):
    """Its state goes through JSON, as in the journal, and another judge takes over."""
    _, expected = judged(several)
    state, found = State(), []
    for one in several:
        state, verdict = Judge(CONTEXT).look(state, one)
        state = STATES.validate_json(json.dumps(STATES.dump_python(state, mode="json"), allow_nan=False))
        found.append(verdict)
    assert found == expected


@given(looks)
def test_every_verdict_is_finite_has_a_sentence_and_does_not_look_ahead(several: list[Look]):
    _, verdicts = judged(several)
    for number, verdict in enumerate(verdicts, 1):
        assert math.isfinite(verdict.evidence) and math.isfinite(verdict.not_worse)  # noqa: PT018  one claim
        assert verdict.reason
        assert judged(several[:number])[1] == verdicts[:number]


@given(looks)
def test_once_back_always_back(several: list[Look]):
    found = decisions(several)
    if "ROLLBACK" in found:
        assert set(found[found.index("ROLLBACK") :]) == {"ROLLBACK"}


def test_one_look_at_fifty_groups_costs_less_than_5_ms():
    groups = {f"GET /{number}": Pair(Counts(600, 2), Counts(600, 1)) for number in range(50)}
    state, _ = judged(alike(number, 30_000, 60, groups=groups) for number in range(1, 4))
    spent = []
    for number in range(4, 24):
        began = time.process_time()
        state, _ = JUDGE.look(state, alike(number, 30_000, 60, groups=groups))
        spent.append(time.process_time() - began)
    assert min(spent) < 0.005
