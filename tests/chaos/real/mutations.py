"""Five mechanisms that can be switched off in a process of these tests, to see that the harness would notice."""

from collections.abc import Callable
from typing import Any

import blocks.journal_rollouts
from blocks.engine import Engine
from blocks.journal import SqlJournal
from blocks.traefik import TraefikRoutes
from delivery.journal import EventLog, Finished, Journal, Started
from tasks.lease import LeaseKeeper
from tests.chaos.real.effects import replaced


def switch_off(name: str) -> None:
    """From now on this process does without it. Raises `KeyError` for an unknown name."""
    MECHANISMS[name]()


def _write_ahead() -> None:
    """A step's beginning is written with its end, when it is too late."""
    late: dict[str, Started] = {}
    write: Callable[..., None] = Journal._append

    class Late:
        def __init__(self, log: EventLog) -> None:
            self._log = log

        def events(self) -> Any:
            return self._log.events()

        def append(self, *events: Any) -> None:
            if isinstance(events[0], Started):
                late[events[0].step] = events[0]
            elif isinstance(events[0], Finished):
                self._log.append(late.pop(events[0].step), *events)
            else:
                self._log.append(*events)

    def append(journal: Journal, *events: Any) -> None:
        if not isinstance(journal._log, Late):
            journal._log = Late(journal._log)
        write(journal, *events)

    replaced(Journal, "_append", append)


def _fencing() -> None:
    """Nobody looks at tokens, and nobody asks whether the lease is still held."""
    replaced(TraefikRoutes, "_refuse_stale", lambda *_: None)
    vars(blocks.journal_rollouts)["require_mine"] = lambda *_, **__: None
    replaced(LeaseKeeper, "ensure", lambda *_, **__: None)
    replaced(LeaseKeeper, "renew", lambda *_: None)


def _read_back() -> None:
    """What was written is believed to be what Traefik does."""
    replaced(TraefikRoutes, "_confirm", lambda *_, **__: None)
    replaced(TraefikRoutes, "live_weights", lambda routes: dict(routes.state().weights))


def _lease() -> None:
    """Whoever asks for an environment gets it."""
    acquire = SqlJournal.acquire

    def taken(journal: SqlJournal, environment: str, **named: Any) -> Any:
        for lease in journal.leases():
            if lease.environment == environment:
                journal.give_up(lease)
        return acquire(journal, environment, **named)

    replaced(SqlJournal, "acquire", taken)


def _draining() -> None:
    """Who is told to stop is killed at once."""
    stop = Engine.stop

    def at_once(engine: Engine, container: str, *, seconds: int) -> None:
        del seconds
        engine.kill(container)
        stop(engine, container, seconds=0)

    replaced(Engine, "stop", at_once)


MECHANISMS: dict[str, Callable[[], None]] = {
    "write-ahead": _write_ahead,
    "fencing": _fencing,
    "read-back": _read_back,
    "lease": _lease,
    "draining": _draining,
}
