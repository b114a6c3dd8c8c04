"""docs/adr/0006: users do not wait for the journal, on the way back only."""

from collections.abc import Callable, Sequence
from threading import Event as Flag

import pytest

from delivery.errors import StaleFence, TransientError
from delivery.journal import Ending, Event, Evidence, Finished, Journal, Progress, Promoted
from delivery.plan import Step
from delivery.walk import walk
from tests.delivery.samples import a_journal, a_plan

WELL = Evidence(well=True, summary="fine")
SICK = Evidence(well=False, summary="error rate 8.1 %")
PLAN = a_plan()


class AwayLog:
    """A log that is away for as many appends as wanted once `at` is to be written, which gets through or not; reading fails as often."""

    def __init__(self, at: str, *, appends: int, reads: int = 0, gets_through: bool = False) -> None:
        _, self._log = a_journal()
        self._at, self._appends, self._reads, self._gets_through = at, appends, reads, gets_through
        self._is_away = False

    def append(self, *events: Event) -> None:
        self._is_away |= any(isinstance(event, Finished) and event.step == self._at for event in events)
        if self._is_away and self._appends:
            self._appends -= 1
            if self._gets_through:
                self._log.append(*events)
            raise TransientError("The journal's database does not answer.", next="wait.")
        self._log.append(*events)

    def events(self) -> Sequence[Event]:
        if self._is_away and self._reads:
            self._reads -= 1
            raise TransientError("The journal's database does not answer.", next="wait.")
        return self._log.events()


def walked(log: AwayLog, found: dict[str, Evidence], restore: Callable[[], Evidence] = lambda: WELL) -> tuple[list[str], Journal]:
    """The steps that were done, whether the walk came to its end or not, and the journal that it used."""
    journal, done = Journal(log), []

    def act(step: Step) -> Evidence:
        done.append(step.name)
        return restore() if step.name == "restore" else found.get(step.name, WELL)

    try:
        walk(journal, act, Flag(), lost=Flag())
    except (TransientError, StaleFence) as broken:
        done.append(type(broken).__name__)
    return done, journal


def test_users_of_a_sick_release_go_back_before_the_journal_hears_of_it() -> None:
    log = AwayLog("watch-50", appends=99, reads=99)
    done, _ = walked(log, {"watch-50": SICK})
    assert done[-3:] == ["watch-50", "restore", "TransientError"]


@pytest.mark.parametrize("gets_through", [True, False])
def test_what_was_found_is_written_once_when_the_journal_comes_back(*, gets_through: bool) -> None:
    log = AwayLog("watch-50", appends=1, gets_through=gets_through)
    done, journal = walked(log, {"watch-50": SICK})
    assert done[-len(PLAN.back) - 2 :] == ["watch-50", "restore", *[step.name for step in PLAN.back]]
    assert [event for event in log.events() if isinstance(event, Finished) and event.step == "watch-50"] == [Finished("watch-50", SICK)]
    assert journal.progress == Progress.of(log.events())
    closed = journal.progress.closed
    assert closed is not None
    assert (closed.ending, SICK.summary in closed.message) == (Ending.ROLLED_BACK, True)


@pytest.mark.parametrize(
    ("step", "evidence"),
    [("watch-50", WELL), ("shift-10", WELL), ("launch", SICK), ("promote", WELL), ("drain", SICK)],
    ids=["a well watch", "a shift", "no user was moved", "the promotion", "after the promotion"],
)
def test_nothing_else_is_done_without_its_entry(step: str, evidence: Evidence) -> None:
    log = AwayLog(step, appends=99, reads=99)
    done, _ = walked(log, {step: evidence})
    assert done[-2:] == [step, "TransientError"]


def test_a_promotion_that_may_have_been_written_is_never_gone_back_on() -> None:
    log = AwayLog("promote", appends=1, gets_through=True)
    done, _ = walked(log, {})
    assert done[-2:] == ["promote", "TransientError"]
    assert isinstance(log.events()[-1], Promoted)


def test_the_way_back_itself_is_not_done_again_for_want_of_the_journal() -> None:
    log = AwayLog("restore", appends=99, reads=99)
    done, _ = walked(log, {"watch-50": SICK}, restore=lambda: SICK)
    assert done[-3:] == ["watch-50", "restore", "TransientError"]


def test_who_has_lost_the_lease_leaves_users_to_the_next_holder() -> None:
    def refused() -> Evidence:
        raise StaleFence("The lease is gone.", next="stop.")

    log = AwayLog("watch-50", appends=99, reads=99)
    done, _ = walked(log, {"watch-50": SICK}, restore=refused)
    assert done[-2:] == ["restore", "StaleFence"]
