"""The five mechanisms that the promise rests on, each switched off from outside: whoever proves something must be able to fail."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

from delivery.journal import Evidence, Journal
from delivery.plan import Step
from tests.chaos.simulated.ledger import Ledger
from tests.chaos.simulated.platform import Platform

Patches = tuple[tuple[type, str, Callable[..., Any]], ...]


def _nothing(*_: object) -> None:
    return None


def _late(journal: Journal, step: Step, evidence: Evidence) -> None:
    """Started is written together with Finished: after the act, not ahead of it."""
    _STARTED(journal, step)
    _FINISHED(journal, step, evidence)


_STARTED, _FINISHED = Journal.started, Journal.finished
_OFF: dict[str, Patches] = {
    "write-ahead": ((Journal, "started", _nothing), (Journal, "finished", _late)),
    "fencing": ((Platform, "_require", _nothing), (Ledger, "_require", _nothing), (Ledger, "_require_holder", _nothing)),
    "read-back": ((Platform, "_read_back", lambda platform: platform.written),),
    "lease": ((Ledger, "_refuse_held", _nothing),),
    "draining": ((Platform, "_grace", lambda _platform, _release: 0.0),),
}
MUTATIONS = tuple(_OFF)


@contextmanager
def mutated(name: str | None) -> Iterator[None]:
    """Within the block the mechanism does nothing. None switches nothing off."""
    patches = _OFF[name] if name is not None else ()
    before = [(owner, attribute, getattr(owner, attribute)) for owner, attribute, _ in patches]
    try:
        for owner, attribute, instead in patches:
            setattr(owner, attribute, instead)
        yield
    finally:
        for owner, attribute, plain in before:
            setattr(owner, attribute, plain)
