"""Did somebody cancel this run? Asked of the server itself, since Prefect's worker may lose the signal that it should have sent."""

import logging
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import copy_context
from uuid import UUID

from prefect.client.orchestration import get_client
from prefect.client.schemas.objects import StateType

log = logging.getLogger("greenroom.cancelling")

ASKED_EVERY_SECONDS = 2.0
LONGEST_PAUSE_SECONDS = 15.0
# CRASHED and FAILED are not among them: others write these into runs that are alive, and a rollout does not end because of a rumour.
CANCELLED = (StateType.CANCELLING, StateType.CANCELLED)


@contextmanager
def stopped_when_cancelled(run_id: UUID | None, stop: threading.Event, *, every: float = ASKED_EVERY_SECONDS) -> Iterator[None]:
    """Sets `stop` when the run is cancelled while the block runs; without a run nothing happens. `every` is in seconds.

    SIGTERM comes sooner as a rule. A server that does not answer is asked again, more rarely the longer it is silent.
    """
    if run_id is None:
        yield
        return
    leaving = threading.Event()
    # In the caller's context, which may say which server it is.
    thread = threading.Thread(target=copy_context().run, args=(_ask, run_id, stop, leaving, every), name="cancelling", daemon=True)
    thread.start()
    try:
        yield
    finally:
        leaving.set()  # the thread is not waited for: a silent server would hold up whoever leaves


def _ask(run_id: UUID, stop: threading.Event, leaving: threading.Event, every: float) -> None:
    pause = every
    while not leaving.wait(pause) and not stop.is_set():
        try:
            with get_client(sync_client=True, httpx_settings={"timeout": 5.0}) as client:
                state = client.read_flow_run(run_id).state
        except Exception as broken:  # noqa: BLE001  nothing about the server may matter to a rollout
            pause = min(2 * pause, LONGEST_PAUSE_SECONDS)
            log.debug("whether the run is cancelled cannot be told (%s)", type(broken).__name__)
            continue
        pause = every
        if state is not None and state.type in CANCELLED:
            log.info("the run is %s", state.name)
            stop.set()
