from collections.abc import Callable
from threading import Event as Flag

import pytest

from delivery.errors import DeliveryError, LeftOpen, StaleFence, TransientError
from delivery.journal import Closed, Ending, Evidence, Finished, Journal, Progress, Started, TurnedBack
from delivery.plan import Step, StepKind
from delivery.walk import walk
from tests.delivery.samples import a_journal, a_plan

WELL = Evidence(well=True, summary="fine")


class Actor:
    """Does nothing but remember what it was asked to do."""

    def __init__(self, instead: dict[str, Callable[[], Evidence]] | None = None) -> None:
        self.done: list[str] = []
        self._instead = instead or {}

    def __call__(self, step: Step) -> Evidence:
        self.done.append(step.name)
        return self._instead.get(step.name, lambda: WELL)()


def broken(error: BaseException) -> Callable[[], Evidence]:
    def act() -> Evidence:
        raise error

    return act


def run(actor: Actor, *, stop: Flag | None = None, lost: Flag | None = None) -> Closed:
    journal, _ = a_journal()
    return walk(journal, actor, stop or Flag(), lost=lost or Flag())


BACK = [step.name for step in a_plan().back]


def test_a_healthy_walk_does_every_step_once_in_order() -> None:
    actor = Actor()
    assert run(actor) == Closed(Ending.LIVE, "Production runs v1.1.0.")
    assert actor.done == list(a_plan().step_names)


def test_each_step_is_written_before_it_is_done() -> None:
    journal, log = a_journal()

    def act(step: Step) -> Evidence:
        assert log.written[-1] == Started(step.name, attempt=1)
        return WELL

    assert walk(journal, act, Flag(), lost=Flag()).ending is Ending.LIVE


def test_a_breach_at_50_percent_gives_blue_all_traffic() -> None:
    reason = "error rate 8.1 % is above 5 % for 45 s"
    actor = Actor({"watch-50": lambda: Evidence(well=False, summary=reason)})
    closed = run(actor)
    assert closed == Closed(Ending.ROLLED_BACK, f"Production is back on v1.0.0. v1.1.0 was turned back: {reason}")
    assert actor.done[-len(BACK) - 1 :] == ["watch-50", *BACK]


@pytest.mark.parametrize(
    ("error", "reason"),
    [
        (DeliveryError("The image is gone.", next="publish it again."), "launch failed: The image is gone."),
        (TransientError("The engine does not answer.", next="look."), "launch failed: The engine does not answer."),
        (KeyError("secret-in-a-message"), "launch broke unexpectedly (KeyError)"),
    ],
)
def test_a_step_that_breaks_turns_the_rollout_back_and_says_why(error: Exception, reason: str) -> None:
    closed = run(Actor({"launch": broken(error)}))
    assert closed == Closed(Ending.UNTOUCHED, f"Production is unchanged. v1.1.0 was turned back: {reason}")


def test_a_way_back_that_breaks_needs_a_person() -> None:
    sick = {name: broken(DeliveryError("The traffic layer is gone.", next="start it.")) for name in ("check", "restore")}
    closed = run(Actor(sick))
    assert closed.ending is Ending.NEEDS_HUMAN
    assert closed.message == "Production needs a person: step restore of v1.1.0: restore failed: The traffic layer is gone."


@pytest.mark.parametrize("at", [step.name for step in a_plan().forward if step.kind is not StepKind.DRAIN])
def test_a_cancelled_rollout_turns_back_before_the_promotion_and_finishes_after_it(at: str) -> None:
    stop = Flag()

    def cancel() -> Evidence:
        stop.set()
        return WELL

    actor = Actor({at: cancel})
    ending = run(actor, stop=stop).ending
    names = list(a_plan().step_names)
    if names.index(at) >= names.index("promote"):
        assert (ending, actor.done) == (Ending.LIVE, names)
    else:
        assert actor.done == [*names[: names.index(at) + 1], *BACK]
        assert ending is (Ending.ROLLED_BACK if names.index(at) >= names.index("shift-10") else Ending.UNTOUCHED)


def test_a_rollout_that_is_cancelled_before_its_first_step_touches_nothing_but_the_way_back() -> None:
    stop = Flag()
    stop.set()
    journal, log = a_journal()
    actor = Actor()
    assert walk(journal, actor, stop, lost=Flag()).message == "Production is unchanged. v1.1.0 was turned back: the rollout was cancelled"
    assert actor.done == BACK
    assert TurnedBack("the rollout was cancelled") in log.written


def test_a_lost_lease_ends_the_walk_at_once_and_writes_nothing() -> None:
    lost = Flag()

    def lose() -> Evidence:
        lost.set()
        return WELL

    journal, log = a_journal()
    with pytest.raises(StaleFence):
        walk(journal, Actor({"launch": lose}), Flag(), lost=lost)
    assert log.written[-1] == Finished("launch", WELL)
    assert Journal(log).next_step() == next(step for step in a_plan().forward if step.kind is StepKind.CHECK)


def test_a_stale_fence_inside_a_step_is_not_evidence_but_the_end_of_the_walk() -> None:
    journal, log = a_journal()
    with pytest.raises(StaleFence):
        walk(journal, Actor({"launch": broken(StaleFence("Another holder.", next="stop."))}), Flag(), lost=Flag())
    assert log.written[-1] == Started("launch", attempt=1)


@pytest.mark.parametrize("at", a_plan().step_names)
def test_a_process_killed_inside_any_step_is_followed_by_one_that_does_the_step_again(at: str) -> None:
    journal, log = a_journal()
    with pytest.raises(KeyboardInterrupt):
        walk(journal, Actor({at: broken(KeyboardInterrupt())}), Flag(), lost=Flag())
    successor = Actor()
    assert walk(Journal(log), successor, Flag(), lost=Flag()).ending is Ending.LIVE
    assert successor.done[0] == at


def test_a_walk_that_leaves_ends_between_two_steps_and_the_next_goes_on_there() -> None:
    journal, log = a_journal()
    actor = Actor()

    def after_launch(progress: Progress) -> bool:
        return "launch" in progress.finished

    with pytest.raises(LeftOpen, match="left before check"):
        walk(journal, actor, Flag(), lost=Flag(), leave=after_launch)
    assert isinstance(log.written[-1], Finished)
    assert walk(journal, actor, Flag(), lost=Flag()).ending is Ending.LIVE
    assert actor.done == list(a_plan().step_names)
