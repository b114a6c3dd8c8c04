"""A process that walks a rollout, or takes over what another one left, and can be killed.

The harness forks it from a server that has imported everything: importing takes seconds, forking milliseconds.
"""

import json
import logging
import os
import signal
import sys
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from blocks.journal import SqlJournal
from delivery.errors import DeliveryError
from delivery.plan import plan_rollout
from tasks.lease import LeaseKeeper
from tasks.rollout import Means, retire_warm, turn_back_abandoned, walk_rollout
from tests.chaos.real.effects import Point, Recorder, install
from tests.chaos.real.mutations import switch_off
from tests.chaos.real.place import TTL, Place

ROUND_SECONDS = 0.5  # how often a recoverer looks; the steward's two seconds would only be waited for


@dataclass(frozen=True)
class Spec:
    """What a process does. `walk` opens a rollout to `version`; `retake` walks `rollout` again as a late duplicate would; `recover` takes
    over whatever is abandoned and retires what is no longer needed, in at least `rounds` rounds, until all is quiet or `within` seconds
    are over. `without` names a mechanism that is switched off in this process.
    """

    place: Place
    mode: Literal["walk", "retake", "recover"]
    who: str
    outcome: str
    version: str = ""
    rollout: str = ""
    point: Point | None = None
    without: str | None = None
    rounds: int = 1
    within: float = 60.0


def run(spec: Spec) -> None:
    """Does it, and leaves what came of it as JSON in `spec.outcome`; its log lies beside that."""
    folder = Path(spec.outcome).parent
    folder.mkdir(parents=True, exist_ok=True)
    log = os.open(f"{spec.outcome}.log", os.O_CREAT | os.O_WRONLY | os.O_APPEND, 0o600)
    os.dup2(log, 1)
    os.dup2(log, 2)
    logging.basicConfig(format="%(asctime)s %(name)s %(message)s", level=logging.INFO, stream=sys.stderr, force=True)
    logging.getLogger("httpx").setLevel(logging.WARNING)
    recorder = Recorder(Path(spec.place.effects), spec.who, spec.point)
    install(recorder)
    if spec.without:
        switch_off(spec.without)
    stop = threading.Event()
    # As a flow does: a cancelled run turns back, it does not fall.
    signal.signal(signal.SIGTERM, lambda *_: stop.set())
    began = time.monotonic()
    acts: dict[str, Callable[[], dict[str, Any]]] = {
        "walk": lambda: _walk(spec, stop),
        "retake": lambda: _retake(spec, stop),
        "recover": lambda: _recover(spec),
    }
    try:
        told = acts[spec.mode]()
    except DeliveryError as broken:
        told = {"error": type(broken).__name__, "what": broken.what}
    told |= {"seconds": time.monotonic() - began, "ended_at": time.monotonic()}
    new = Path(f"{spec.outcome}.part")
    new.write_text(json.dumps(told))
    os.replace(new, spec.outcome)  # noqa: PTH105  Path.replace is watched
    # Threads of a lost lease or of a client would be waited for.
    os._exit(0)


def _means(place: Place) -> Means:
    return Means(target=place.target(), metrics=place.metrics(), folder=Path(place.folder) / "logs")


def _walk(spec: Spec, stop: threading.Event) -> dict[str, Any]:
    place = spec.place
    store, means, release = SqlJournal(place.journal_url), _means(place), place.release(spec.version)
    with LeaseKeeper(store, place.environment, holder=spec.who, purpose=f"releasing v{spec.version}", ttl=TTL) as keeper:
        blue = store.live(place.environment)
        plan = plan_rollout(release, place.policy(), capabilities=means.target.capabilities, blue=blue)
        rollout = store.open_rollout(keeper.lease, plan, by=spec.who)
        closed = walk_rollout(store, keeper, rollout, means, stop=stop)
    return {"ending": closed.ending.value, "message": closed.message, "rollout": rollout}


def _retake(spec: Spec, stop: threading.Event) -> dict[str, Any]:
    place = spec.place
    store = SqlJournal(place.journal_url)
    with LeaseKeeper(store, place.environment, holder=spec.who, purpose=f"walking {spec.rollout} again", ttl=TTL) as keeper:
        closed = walk_rollout(store, keeper, spec.rollout, _means(place), stop=stop)
    return {"ending": closed.ending.value, "message": closed.message, "rollout": spec.rollout}


def _recover(spec: Spec) -> dict[str, Any]:
    """The steward's rounds."""
    place, until = spec.place, time.monotonic() + spec.within
    store, means = SqlJournal(place.journal_url), _means(place)
    ended: list[str] = []
    retired: list[str] = []
    closed_at: float | None = None
    for round_ in range(1, 10_000):
        try:
            # Asked first: one whose holder died may run out while we look.
            is_held = _is_held(store, place.environment)
            ended += [closed.message for closed in turn_back_abandoned(store, lambda _: means, holder=spec.who, ttl=TTL)]
            if store.rollouts(environment=place.environment, open_only=True):
                told: tuple[str, ...] = ("a rollout is open",)
            else:
                closed_at = closed_at or time.monotonic()
                told = retire_warm(store, means.target, place.environment, now=store.now(), holder=spec.who, ttl=TTL)
                retired += told
            quiet = not told and not is_held
        except DeliveryError as broken:
            logging.getLogger("greenroom.chaos").warning("a round broke: %s", broken)
            quiet = False
        if quiet and round_ >= spec.rounds:
            return {"ended": ended, "retired": retired, "closed_at": closed_at, "rounds": round_}
        if time.monotonic() > until:
            break
        time.sleep(ROUND_SECONDS)
    return {"error": "NotQuiet", "what": "there was still something to do", "ended": ended, "retired": retired, "closed_at": closed_at}


def _is_held(store: SqlJournal, environment: str) -> bool:
    """By a living holder; the lease of one that vanished before it had begun keeps nobody waiting."""
    now = store.now()
    return any(lease.environment == environment and lease.expires_at > now for lease in store.leases())
