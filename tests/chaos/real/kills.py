"""SIGKILL before and after every side effect: what there is to be killed at is found by watching whole rollouts."""

import re
import time
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from pathlib import Path

from tests.chaos.real.effects import Effect, read_effects
from tests.chaos.real.lane import Happened, Lane, Story
from tests.chaos.real.place import BAD

ABANDONED_AT = "watch-50/journal Started"  # green and blue have users


@dataclass(frozen=True)
class Found:
    """Names of effects, in order, of a rollout that goes well, of one that is turned back, and of the recovery of an abandoned one."""

    forward: tuple[str, ...]
    retire: tuple[str, ...]
    back: tuple[str, ...]
    recovery: tuple[str, ...]


def explore(lane: Lane) -> Found:
    """Watches each of them once."""
    for version in (lane.next_good, BAD):
        lane.forget_images(version)
    forward = _names(lane, lambda: lane.start("walk", lane.next_good).wait())
    retire = _names(lane, lambda: lane.recover(Happened()))
    back = _names(lane, lambda: lane.start("walk", BAD).wait())
    lane.recover(Happened())
    abandoned = lane.start("walk", lane.next_good, point=lane.point(ABANDONED_AT))
    abandoned.wait()
    recovery = _names(lane, lambda: lane.recover(Happened()))
    return Found(tuple(forward), tuple(retire), tuple(back), tuple(recovery))


def _names(lane: Lane, act: Callable[[], object]) -> list[str]:
    file = Path(lane.place.effects)
    since = file.stat().st_size
    act()
    return thinned(read_effects(file, since))


def thinned(effects: Iterable[Effect]) -> list[str]:
    """Each distinct pair of step and effect once: the second replica, the second service and a repetition of the same show nothing new."""
    kept: dict[str, None] = {}
    for effect in effects:
        is_first = effect.when == "begin" and effect.kind != "apply" and "#" not in effect.name
        if is_first and not re.search(r"-[1-9]\d*$", effect.what) and (effect.kind, effect.what) not in TOLD_BY_ANOTHER:
            kept[effect.name] = None
    return [*kept]


# The api's containers are pulled, connected and removed in the same breath as the worker's.
TOLD_BY_ANOTHER = (("pull", "worker"), ("connect", "worker-0"), ("remove", "worker-0"))
BACK_STEPS = ("restore", "collect", "remove", "close")
# What another process does to an abandoned rollout is the same way back: its own are the first and the last of it.
RECOVERY = (
    "open/lease taken",
    "turn back/journal TurnedBack",
    "restore/journal Started",
    "restore/write routing",
    "restore/journal Finished",
)
IN_BETWEEN = ("write state twin", "write routing twin", "write state", "lease taken", "lease given up", "journal Started")


def points(found: Found) -> list[tuple[str, str, str]]:
    """(path, name, when). What is before one effect is after the one before it, so `before` is told where something may be half done:
    at the engine's acts, at the routing, and at the entries that decide. A step's `Finished` is told before it is written: after that
    comes the next step's `Started`.
    """
    told = []
    for path, names in vars(found).items():
        for name in names:
            step, _, effect = name.partition("/")
            if (path == "back" and step not in BACK_STEPS) or (path == "recovery" and name not in RECOVERY):
                continue
            if effect == "journal Finished":
                whens: tuple[str, ...] = ("before",)
            elif effect in IN_BETWEEN:
                whens = ("after",)
            else:
                whens = ("before", "after")
            told += [(path, name, when) for when in whens]
    return told


def stories(found: Found) -> list[Story]:
    return [killed(path, name, when) for path, name, when in points(found)]


def killed(path: str, name: str, when: str) -> Story:
    """The process that walks (or retires, or recovers) is killed there; another one takes over."""

    def tell(lane: Lane) -> Happened:
        happened = Happened()
        version = BAD if path == "back" else lane.next_good
        lane.forget(version)
        if "pull" in name:
            lane.forget_images(version)
        point = lane.point(name, when)
        match path:
            case "forward" | "back":
                doomed = lane.start("walk", version, point=point)
            case "retire":
                lane.start("walk", version).wait()
                doomed = lane.start("recover", point=point)
            case _:
                lane.start("walk", version, point=lane.point(ABANDONED_AT)).wait()
                doomed = lane.start("recover", point=point)
        doomed.wait()
        happened.struck_at = time.monotonic()
        happened.expect(doomed.was_killed, f"the point {name} was not reached")
        lane.recover(happened)
        return happened

    return Story(f"{path}: killed {when} {name}", f"kill-{path}", tell)
