"""More than one process at a rollout: frozen walkers that wake up, two recoverers, a second rollout, a cancelled one, a late duplicate."""

import signal
import time
from collections.abc import Callable
from contextlib import suppress

from delivery.errors import DeliveryError
from tests.chaos.real.kills import ABANDONED_AT
from tests.chaos.real.lane import Happened, Lane, Story
from tests.chaos.real.place import BAD, TTL

REFUSED = ("StaleFence",)


def stories() -> list[Story]:
    return [
        *(
            Story(f"frozen at {name}, recovered by another, wakes up", "frozen", frozen(name, when))
            for name, when in (
                ("watch-50/journal Started", "after"),
                ("shift-100/apply", "before"),
                ("promote/apply", "before"),
                ("watch-100/journal Finished", "before"),
                ("launch/journal Finished", "before"),
                ("shift-50/apply", "before"),
            )
        ),
        Story("frozen while it holds the file lock, wakes up while another recovers", "frozen", frozen_in_the_lock),
        Story("two recoverers at once", "rivals", two_recoverers(ABANDONED_AT)),
        Story("two recoverers at once after the promotion", "rivals", two_recoverers("promote/journal Promoted")),
        Story("a recoverer beside a living walker", "rivals", beside_the_living),
        Story("a second rollout on a busy environment", "rivals", second_rollout),
        Story("a late duplicate of a closed rollout", "rivals", late_duplicate),
        Story("walker killed, then two recoverers one after the other", "rivals", recoverers_die),
        *(
            Story(f"cancelled {when} {name}", "cancel", cancelled(name, when))
            for name, when in (
                ("prepare/journal Started", "after"),
                ("launch/start api-0", "after"),
                ("smoke/journal Started", "after"),
                ("shift-50/write routing", "before"),
                ("watch-50/journal Started", "after"),
                ("watch-100/journal Finished", "before"),
                ("promote/write state", "before"),
                ("drain/journal Started", "after"),
            )
        ),
        Story("cancelled while it is turned back by itself", "cancel", cancelled("restore/journal Started", "after", version=BAD)),
    ]


def frozen(name: str, when: str) -> Callable[[Lane], Happened]:
    """SIGSTOP for longer than its lease; somebody else recovers; SIGCONT: whatever it was about to do is refused."""

    def tell(lane: Lane) -> Happened:
        happened = Happened()
        version = lane.next_good
        lane.forget(version)
        walker = lane.start("walk", version, point=lane.point(name, when, "freeze"))
        happened.expect(walker.wait_until_struck(), f"the point {name} was not reached")
        walker.wait_until_frozen()
        happened.struck_at = time.monotonic()
        lane.recover(happened)
        before = lane.world(0, 0.0, 0.0).snapshot()
        walker.signal(signal.SIGCONT)
        told = walker.wait()
        after = lane.world(0, 0.0, 0.0).snapshot()
        happened.remark = f"{told.get('error')}: {told.get('what')}"[:200]
        happened.expect(told.get("error") in REFUSED, f"the walker that woke up was not refused: {told}")
        happened.expect(before == after, f"the walker that woke up changed {[key for key in before if before[key] != after[key]]}")
        return happened

    return tell


def frozen_in_the_lock(lane: Lane) -> Happened:
    """Whoever recovers cannot write while a frozen process holds the file lock; once it wakes up, all goes on."""
    happened = Happened()
    version = lane.next_good
    lane.forget(version)
    walker = lane.start("walk", version, point=lane.point("shift-100/write routing", "before", "freeze"))
    happened.expect(walker.wait_until_struck(), "the point was not reached")
    walker.wait_until_frozen()
    happened.struck_at = time.monotonic()
    recoverer = lane.start("recover")
    time.sleep(TTL.total_seconds() + 3)
    walker.signal(signal.SIGCONT)
    told = walker.wait()
    happened.remark = f"{told.get('error')}: {told.get('what')}"[:200]
    happened.expect(told.get("error") in REFUSED, f"the walker that woke up was not refused: {told}")
    happened.recovered_at = recoverer.wait().get("closed_at")
    lane.recover(happened)
    return happened


def two_recoverers(name: str) -> Callable[[Lane], Happened]:
    """Exactly one takes the rollout on."""

    def tell(lane: Lane) -> Happened:
        happened = Happened()
        version = lane.next_good
        lane.forget(version)
        lane.start("walk", version, point=lane.point(name)).wait()
        happened.struck_at = time.monotonic()
        both = [lane.start("recover"), lane.start("recover")]
        told = [one.wait() for one in both]
        took = [len(one.get("ended", ())) for one in told]
        happened.remark = f"they took on {took[0]} and {took[1]}"
        happened.expect(sorted(took) == [0, 1], f"expected that exactly one takes it on, {happened.remark}")
        happened.recovered_at = min(filter(None, (one.get("closed_at") for one in told)), default=None)
        lane.recover(happened)
        return happened

    return tell


def beside_the_living(lane: Lane) -> Happened:
    """Whoever holds its lease is left alone."""
    happened = Happened()
    version = lane.next_good
    lane.forget(version)
    walker = lane.start("walk", version, point=lane.point(ABANDONED_AT, strike="wait"))
    happened.expect(walker.wait_until_struck(), "the point was not reached")
    recoverer = lane.start("recover", within=2 * TTL.total_seconds())
    time.sleep(TTL.total_seconds())
    walker.let_go()
    told = walker.wait()
    with suppress(DeliveryError):
        recoverer.wait()
    happened.remark = str(told.get("message") or told.get("what"))
    happened.expect(told.get("ending") == "LIVE", f"a living walker was disturbed: {told}")
    lane.recover(happened)
    return happened


def second_rollout(lane: Lane) -> Happened:
    """Refused in under a second, with who does what since when."""
    happened = Happened()
    version = lane.next_good
    lane.forget(version)
    walker = lane.start("walk", version, point=lane.point(ABANDONED_AT, strike="wait"))
    happened.expect(walker.wait_until_struck(), "the point was not reached")
    second = lane.start("walk", BAD)
    told = second.wait()
    walker.let_go()
    happened.remark = f"{told.get('what')} ({told.get('seconds', 99):.2f} s)"
    happened.expect(told.get("error") == "EnvironmentBusy", f"the second rollout was not refused: {told}")
    said = str(told.get("what"))
    for word in (walker.spec.who, f"releasing v{version}", "since"):
        happened.expect(word in said, f"the refusal does not say {word!r}: {said}")
    happened.expect(told.get("seconds", 99) < 1.0, f"the refusal took {told.get('seconds')} s")
    happened.expect(walker.wait().get("ending") == "LIVE", "the first rollout was disturbed")
    lane.recover(happened)
    return happened


def late_duplicate(lane: Lane) -> Happened:
    """A run that finds its rollout closed ends at once and changes nothing."""
    happened = Happened()
    version = lane.next_good
    lane.forget(version)
    first = lane.start("walk", version).wait()
    lane.recover(happened)
    before = lane.world(0, 0.0, 0.0).snapshot()
    again = lane.start("retake", rollout=str(first["rollout"])).wait()
    after = lane.world(0, 0.0, 0.0).snapshot()
    happened.expect(again.get("message") == first.get("message"), f"it told {again}, expected {first}")
    happened.expect(before == after, "it changed something")
    return happened


def recoverers_die(lane: Lane) -> Happened:
    """Each of three takes it on where the one before died."""
    happened = Happened()
    version = lane.next_good
    lane.forget(version)
    lane.start("walk", version, point=lane.point("shift-100/write routing")).wait()
    happened.struck_at = time.monotonic()
    for name in ("restore/write state", "remove/journal Started"):
        doomed = lane.start("recover", point=lane.point(name))
        doomed.wait()
        happened.expect(doomed.was_killed, f"the point {name} was not reached")
    lane.recover(happened)
    return happened


def cancelled(name: str, when: str, *, version: str = "") -> Callable[[Lane], Happened]:
    """SIGTERM: before the promotion everything goes back, after it forward; the process itself does it."""

    def tell(lane: Lane) -> Happened:
        happened = Happened()
        to = version or lane.next_good
        lane.forget(to)
        walker = lane.start("walk", to, point=lane.point(name, when, "cancel"))
        happened.expect(walker.wait_until_struck(), f"the point {name} was not reached")
        happened.struck_at = time.monotonic()
        told = walker.wait()
        promoted = name.startswith(("drain", "promote"))
        happened.recovered_at = told.get("ended_at")
        happened.remark = str(told.get("message") or told.get("what"))
        wanted = ("LIVE",) if promoted else ("ROLLED_BACK", "UNTOUCHED")
        happened.expect(told.get("ending") in wanted, f"got {told}, expected {' or '.join(wanted)}")
        lane.recover(happened)
        return happened

    return tell
