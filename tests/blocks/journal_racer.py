"""A process of its own that does one thing to the journal, all of them at the same moment: when their standard input says so."""

import json
import os
import signal
import sys
from datetime import timedelta

from blocks.journal import SqlJournal
from delivery.errors import DeliveryError
from delivery.journal import Started


def acquire(journal: SqlJournal, _: str) -> object:
    return journal.acquire("production", holder=f"process {os.getpid()}", purpose="a race", ttl=timedelta(minutes=1)).fence


def migrate(journal: SqlJournal, _: str) -> object:
    journal.migrate()
    return "migrated"


def append_and_die(journal: SqlJournal, rollout: str) -> object:
    lease = journal.acquire("production", holder="the doomed", purpose="dying", ttl=timedelta(minutes=1))
    journal.log_of(rollout, lease).append(Started("prepare", attempt=1))
    os.kill(os.getpid(), signal.SIGKILL)
    return None


def main() -> None:
    what, argument = sys.argv[1], sys.argv[2]
    journal = SqlJournal(os.environ["RACER_URL"])
    print("ready", flush=True)  # noqa: T201
    sys.stdin.readline()
    try:
        answer = {"acquire": acquire, "migrate": migrate, "append_and_die": append_and_die}[what](journal, argument)
    except DeliveryError as refused:
        answer = type(refused).__name__
    print(json.dumps(answer), flush=True)  # noqa: T201


if __name__ == "__main__":
    main()
