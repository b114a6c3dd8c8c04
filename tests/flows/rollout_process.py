"""A process of its own that walks, recovers, or is a steward: `rollout_process.py ROLE FOLDER [WHERE WHAT]`.

WHERE is a verb of the platform (`shift`) or the number of an entry in the journal (`entry-9`), WHAT is `kill`, `freeze` or `wait`: there
the process dies, stops until somebody continues it, or says so and waits for a line. It ends with one line of JSON: what came of it.
"""

import json
import os
import signal
import sys
import threading
from collections.abc import Callable, Sequence
from datetime import timedelta
from pathlib import Path
from typing import Any

from blocks.journal import SqlJournal
from blocks.settings import settings
from delivery.environment import Traffic
from delivery.errors import DeliveryError
from delivery.plan import plan_rollout
from tasks.lease import LeaseKeeper
from tasks.rollout import Means, turn_back_abandoned, walk_rollout
from tests.samples import a_release, an_environment
from tests.shared_target import SharedTarget

BLUE, GREEN = a_release("1.0.0"), a_release("1.1.0")
QUICK = an_environment(traffic=Traffic(steps=(50, 100), watch_seconds=0, bake_seconds=0, hold_seconds=900))


def say(word: object) -> None:
    print(json.dumps(word), flush=True)  # noqa: T201


class Incident:
    """What happens to this process, once, at the place it was told."""

    def __init__(self, where: str = "", what: str = "") -> None:
        self._where, self._what = where, what
        self._entries = 0

    def at_verb(self, verb: str) -> None:
        if verb == self._where:
            self._where = ""
            say("here")
            if self._what == "wait":
                sys.stdin.readline()
            else:
                os.kill(os.getpid(), {"kill": signal.SIGKILL, "freeze": signal.SIGSTOP}[self._what])

    def at_entry(self, append: Callable[..., None]) -> Callable[..., None]:
        def counted(*arguments: Any) -> None:
            self._entries += 1
            self.at_verb(f"entry-{self._entries}")
            append(*arguments)

        return counted


class Process:
    def __init__(self, folder: Path, incident: Incident) -> None:
        self.folder = folder
        self.ttl = timedelta(seconds=settings().lease_ttl_seconds)
        SqlJournal._append = incident.at_entry(SqlJournal._append)  # type: ignore[method-assign]
        self.target = SharedTarget(file=folder / "platform.json", arriving=incident.at_verb)
        self.store = SqlJournal(settings().database_url)
        self.holder = f"process {os.getpid()}"

    def means(self) -> Means:
        return Means(self.target, None, self.folder / "logs")

    def walk(self) -> object:
        plan = plan_rollout(GREEN, QUICK, capabilities=self.target.capabilities, blue=BLUE)
        with LeaseKeeper(self.store, "production", holder=self.holder, purpose="a rollout", ttl=self.ttl) as keeper:
            rollout = self.store.open_rollout(keeper.lease, plan, by="Ann")
            return walk_rollout(self.store, keeper, rollout, self.means(), stop=threading.Event()).message

    def recover(self) -> object:
        return [closed.message for closed in turn_back_abandoned(self.store, lambda _: self.means(), holder=self.holder, ttl=self.ttl)]

    def steward(self) -> object:
        from flows.assembly import LocalBlocks  # noqa: PLC0415
        from flows.steward import Steward  # noqa: PLC0415

        stop = threading.Event()
        signal.signal(signal.SIGTERM, lambda *_: stop.set())
        say("ready")
        Steward(settings(), stop=stop, blocks=lambda: LocalBlocks({("docker-target", "production"): self.target})).run()
        return "ended"


def main(role: str, folder: str, incident: Sequence[str]) -> None:
    process = Process(Path(folder), Incident(*incident))
    try:
        said = {"walk": process.walk, "recover": process.recover, "steward": process.steward}[role]()
    except DeliveryError as refused:
        said = type(refused).__name__
    say(said)


if __name__ == "__main__":
    main(sys.argv[1], sys.argv[2], sys.argv[3:])
