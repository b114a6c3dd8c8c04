"""Rollouts that nobody disturbs: what all the others are compared with."""

import time
from collections.abc import Callable

from tests.chaos.real.lane import Happened, Lane, Story
from tests.chaos.real.place import BAD


def undisturbed(version: str = "") -> Callable[[Lane], Happened]:
    def tell(lane: Lane) -> Happened:
        happened = Happened()
        to = version or lane.next_good
        lane.forget(to)
        told = lane.start("walk", to).wait()
        wanted = "ROLLED_BACK" if to == BAD else "LIVE"
        happened.remark = str(told.get("message") or told.get("what"))
        happened.expect(told.get("ending") == wanted, f"got {told}, expected {wanted}")
        lane.recover(happened)
        # Long enough for the slow requests that were begun before, and are answered or broken off by now.
        time.sleep(1)
        return happened

    return tell


def again_over_its_remains(lane: Lane) -> Happened:
    """A release that was turned back comes again, and finds its own stopped containers."""
    happened = Happened()
    for _ in range(2):
        told = lane.start("walk", BAD).wait()
        happened.expect(told.get("ending") == "ROLLED_BACK", f"got {told}, expected ROLLED_BACK")
        lane.recover(happened)
    return happened


def stories() -> list[Story]:
    return [
        Story("nobody disturbs a good release", "calm", undisturbed()),
        Story("nobody disturbs a bad release", "calm", undisturbed(BAD)),
        Story("a bad release comes again over its remains", "calm", again_over_its_remains),
    ]
