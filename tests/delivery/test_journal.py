from collections.abc import Callable, Sequence

import pytest
from hypothesis import given
from hypothesis import strategies as st

from delivery.errors import DeliveryError
from delivery.journal import Closed, Ending, Event, Evidence, Finished, Journal, Opened, Progress, Promoted, Started, TurnedBack, chained
from delivery.plan import Plan, Step, StepKind
from tests.delivery.samples import MemoryLog, a_journal, a_plan

WELL, SICK = Evidence(well=True, summary="fine"), Evidence(well=False, summary="it broke")
PLANS = [a_plan(), a_plan(blue=None), a_plan("1.0.0", blue="1.1.0", kind="rollback")]


def walked(plan: Plan, verdict: Callable[[Step], Evidence] = lambda _: WELL) -> MemoryLog:
    journal, log = a_journal(plan)
    while step := journal.next_step():
        journal.started(step)
        journal.finished(step, verdict(step))
    journal.close()
    return log


def prefixes(log: MemoryLog) -> list[list[Event]]:
    return [log.written[:length] for length in range(1, len(log.written) + 1)]


def test_a_rollout_whose_steps_are_all_well_goes_live() -> None:
    log = walked(a_plan())
    assert log.written[-1] == Closed(Ending.LIVE, "Production runs v1.1.0.")
    assert [event.step for event in log.written if isinstance(event, Finished)] == list(a_plan().step_names)


@pytest.mark.parametrize("sick", [step for step in a_plan().step_names if step not in {"announce", "drain"}])
def test_a_sick_step_before_the_promotion_turns_the_rollout_back(sick: str) -> None:
    end = walked(a_plan(), lambda step: SICK if step.name == sick else WELL).written[-1]
    moved = a_plan().step_names.index(sick) >= a_plan().step_names.index("shift-10")
    where = "Production is back on v1.0.0." if moved else "Production is unchanged."
    assert end == Closed(Ending.ROLLED_BACK if moved else Ending.UNTOUCHED, f"{where} v1.1.0 was turned back: it broke")


def test_a_sick_first_release_leaves_nothing_behind() -> None:
    end = walked(a_plan(blue=None), lambda step: SICK if step.kind is StepKind.PROMOTE else WELL).written[-1]
    assert end == Closed(Ending.ROLLED_BACK, "Production is back on nothing, as before its first release. v1.1.0 was turned back: it broke")


@pytest.mark.parametrize("sick", ["drain", "restore", "collect", "remove"])
def test_a_sick_step_that_neither_direction_can_pass_needs_a_person(sick: str) -> None:
    log = walked(a_plan(), lambda step: SICK if step.name in {sick, *(() if sick == "drain" else ("check",))} else WELL)
    assert log.written[-1] == Closed(Ending.NEEDS_HUMAN, f"Production needs a person: step {sick} of v1.1.0: it broke")


def test_the_promotion_is_written_together_with_its_evidence() -> None:
    log = walked(a_plan())
    promoted = log.written.index(Promoted(a_plan().release.id))
    assert log.written[promoted - 1] == Finished("promote", WELL)


def test_nothing_is_turned_back_after_the_promotion() -> None:
    for events in prefixes(walked(a_plan())):
        if any(isinstance(event, Promoted) for event in events):
            journal = Journal(log := MemoryLog(events))
            journal.turn_back("too late")
            assert log.written == events
            assert finish(journal).ending is Ending.LIVE


def finish(journal: Journal) -> Closed:
    while step := journal.next_step():
        journal.started(step)
        journal.finished(step, WELL)
    return journal.close()


@pytest.mark.parametrize("plan", PLANS, ids=["normal", "first", "rollback"])
def test_from_every_prefix_before_the_promotion_the_way_back_begins_with_the_traffic_and_ends(plan: Plan) -> None:
    for events in prefixes(walked(plan)):
        if any(isinstance(event, Promoted) for event in events):
            continue
        journal = Journal(MemoryLog(events))
        journal.turn_back("abandoned by its holder")
        step = journal.next_step()
        assert step is not None
        assert step.kind is StepKind.RESTORE
        assert finish(journal).ending in {Ending.UNTOUCHED, Ending.ROLLED_BACK}


@pytest.mark.parametrize("plan", PLANS, ids=["normal", "first", "rollback"])
def test_from_every_prefix_somebody_else_can_go_on_forward(plan: Plan) -> None:
    for events in prefixes(walked(plan)):
        assert finish(Journal(MemoryLog(events))).ending is Ending.LIVE


def test_a_step_that_was_started_and_not_finished_is_done_again_with_the_next_number() -> None:
    journal, log = a_journal()
    journal.started(a_plan().forward[0])
    again = Journal(log)
    assert again.next_step() == a_plan().forward[0]
    again.started(a_plan().forward[0])
    assert log.written[1:] == [Started("prepare", attempt=1), Started("prepare", attempt=2)]


def test_a_closed_rollout_stays_as_it_ended() -> None:
    log = walked(a_plan())
    written = list(log.written)
    journal = Journal(log)
    journal.turn_back("late")
    assert journal.next_step() is None
    assert journal.close() == written[-1]
    assert log.written == written


OPENED = Opened(a_plan(), by="ann")
ILLEGAL: list[tuple[str, list[Event], str]] = [
    ("nothing at all", [], "it has no events"),
    ("no opening", [Started("prepare", 1)], "the first event is not the opening"),
    ("two openings", [OPENED, OPENED], "it is opened twice"),
    ("a step out of turn", [OPENED, Started("launch", 1)], "step launch is started where prepare is due"),
    ("an unknown step", [OPENED, Started("dance", 1)], "step dance is started where prepare is due"),
    ("a step of the way back on the way forward", [OPENED, Started("restore", 1)], "step restore is started where prepare is due"),
    ("a forward step after turning back", [OPENED, TurnedBack("x"), Started("prepare", 1)], "step prepare is started where restore is due"),
    ("an end without a beginning", [OPENED, Finished("prepare", WELL)], "step prepare is finished without being under way"),
    (
        "two ends of one step",
        [OPENED, Started("prepare", 1), Finished("prepare", WELL), Finished("prepare", WELL)],
        "step prepare is finished without being under way",
    ),
    ("a promotion after turning back", [OPENED, TurnedBack("x"), Promoted("v1")], "it is promoted after it was turned back"),
    ("turning back after the promotion", [*walked(a_plan()).written[:-5], TurnedBack("x")], "it is turned back after the promotion"),
    ("something after the end", [*walked(a_plan()).written, TurnedBack("x")], "something follows its end"),
]
UNGUARDED: list[tuple[str, list[Event], str]] = [
    ("a promotion that no step brought", [OPENED, Promoted(a_plan().release.id)], "it is promoted"),
    ("an end in the middle", [OPENED, Closed(Ending.LIVE, "Production runs v1.1.0.")], "it ends"),
]


@pytest.mark.parametrize(("events", "reason"), [case[1:] for case in ILLEGAL], ids=[case[0] for case in ILLEGAL])
def test_an_impossible_story_is_refused(events: Sequence[Event], reason: str) -> None:
    with pytest.raises(DeliveryError, match=f"impossible story: {reason}"):
        Progress.of(events)


@pytest.mark.parametrize(("events", "reason"), [case[1:] for case in UNGUARDED], ids=[case[0] for case in UNGUARDED])
def test_an_ending_or_a_promotion_out_of_turn_is_refused(events: Sequence[Event], reason: str) -> None:
    with pytest.raises(DeliveryError, match=f"impossible story: {reason}"):
        Progress.of(events)


every_name = st.sampled_from([step.name for step in (*a_plan().forward, *a_plan().back)])
any_event = st.one_of(
    st.just(OPENED),
    st.builds(Started, every_name, st.integers(1, 3)),
    st.builds(Finished, every_name, st.sampled_from([WELL, SICK])),
    st.just(TurnedBack("cancelled")),
    st.just(Promoted(a_plan().release.id)),
)


@st.composite
def stories(draw: st.DrawFn) -> tuple[list[Event], Event]:
    """A legal story of any length with many turns, and one event more that may not fit."""
    journal, log = a_journal()
    for _ in range(draw(st.integers(0, 40))):
        step = journal.next_step()
        if step is None:
            if draw(st.booleans()):
                journal.close()
            break
        match draw(st.sampled_from(["do", "do", "do", "do", "start", "fail", "turn"])):
            case "start":
                journal.started(step)
            case "turn":
                journal.turn_back("cancelled")
            case how:
                journal.started(step)
                journal.finished(step, WELL if how == "do" else SICK)
    return list(log.written), draw(any_event)


@given(stories())
def test_no_order_of_events_makes_an_illegal_journal(story: tuple[list[Event], Event]) -> None:
    """What a journal wrote can always be read again; one event more is refused, or leaves a journal that still ends in its four ways."""
    events, one_more = story
    progress = Progress.of(events)
    assert not (progress.promoted and progress.turned_back)
    try:
        progress = progress.after(one_more)
    except DeliveryError:
        return
    assert not (progress.promoted and progress.turned_back)
    assert finish(Journal(MemoryLog([*events, one_more]))).ending in Ending


@given(stories(), st.lists(st.booleans(), min_size=40, max_size=40))
def test_every_rollout_ends_whatever_its_steps_find(story: tuple[list[Event], Event], verdicts: list[bool]) -> None:
    journal = Journal(MemoryLog(story[0]))
    steps = 0
    while step := journal.next_step():
        journal.started(step)
        journal.finished(step, WELL if verdicts[steps % len(verdicts)] else SICK)
        steps += 1
        assert steps <= len(a_plan().forward) + len(a_plan().back)
    closed = journal.close()
    assert (closed.ending is Ending.LIVE) <= journal.progress.promoted
    assert closed.message.startswith("Production ")


def test_the_plan_that_was_approved_goes_on_not_todays_settings() -> None:
    journal, _ = a_journal(a_plan(blue=None))
    assert journal.progress.plan == a_plan(blue=None)
    assert journal.progress.by == "ann"


@pytest.mark.parametrize("change", [{"rollout": "production-8"}, {"sequence": 2}, {"fence": 4}, {"payload": "{} "}])
def test_the_hash_of_an_entry_covers_all_of_it(change: dict[str, object]) -> None:
    entry: dict[str, object] = {"rollout": "production-7", "sequence": 1, "fence": 3, "payload": "{}"}
    assert chained("", **entry) != chained("", **(entry | change))  # type: ignore[arg-type]
    assert chained("", **entry) != chained("0", **entry)  # type: ignore[arg-type]
    assert len(chained("", **entry)) == 64  # type: ignore[arg-type]
