"""What people see of a rollout while it goes on: run names, progress, notices. All of it is told by one thread beside the walk, so that a
server or a Slack that is slow or dead never holds up a rollout.
"""

import json
import logging
import queue
import threading
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from contextvars import copy_context
from datetime import datetime, timedelta
from types import TracebackType
from typing import Self
from uuid import UUID, uuid4

from prefect.client.orchestration import get_client
from prefect.client.schemas.actions import ArtifactCreate, ArtifactUpdate
from prefect.client.schemas.filters import ArtifactFilter, ArtifactFilterFlowRunId, ArtifactFilterKey
from prefect.context import FlowRunContext

from blocks.prefect_events import is_prefect_named
from delivery.alert_news import EVENTS
from delivery.errors import DeliveryError, TryLater, Undeliverable
from delivery.ports import JournalStore, Notifier
from delivery.redaction import redacted, redacted_within

log = logging.getLogger("greenroom.telling")

Told = Callable[[], object]


class Telling:
    """Does what it is given one after another on its own daemon thread, and never raises. Leaving waits `patience_seconds` at most for
    what is still to be told; what is not told by then is lost, except notices, which the journal keeps for the next one who sends.
    """

    def __init__(self, *, patience_seconds: float = 5.0) -> None:
        self._patience = patience_seconds
        self._waiting: queue.SimpleQueue[tuple[str, Told] | None] = queue.SimpleQueue()
        self._newest: dict[str, int] = {}
        # In the caller's context, so that what is logged here appears in the caller's run.
        self._thread = threading.Thread(target=copy_context().run, args=(self._tell,), name="telling", daemon=True)

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        self.soon("the end", lambda: self._waiting.put(None))  # what is told may ask for more to be told
        self._thread.join(self._patience)
        if self._thread.is_alive():
            log.warning("Not everything was told within %.0f s; notices wait in the journal", self._patience)

    def soon(self, what: str, act: Told) -> None:
        """Returns at once; `act` is done later. `what` names it in the log when it breaks."""
        self._waiting.put((what, act))

    def at_once(self, what: str, act: Told) -> None:
        """Done here, before it returns: for what needs no server, and must be told even if the process ends soon."""
        _do(what, act)

    def newest(self, what: str, act: Told) -> None:
        """As `soon`, for what is worth telling only while nothing newer of the same kind is waiting."""
        number = self._newest[what] = self._newest.get(what, 0) + 1
        self.soon(what, lambda: act() if self._newest[what] == number else None)

    def _tell(self) -> None:
        while told := self._waiting.get():
            _do(*told)


def _do(what: str, act: Told) -> None:
    began = time.monotonic()
    try:
        act()
    except DeliveryError as broken:
        log.info("%s: %s", what, broken)
    except Exception as broken:  # noqa: BLE001  nothing that is only told may matter
        log.info("%s could not be told (%s) after %.1f s", what, type(broken).__name__, time.monotonic() - began)


class Notices:
    """Notices go into the journal's outbox and from there to people; what cannot be sent now is sent by whoever comes next."""

    def __init__(self, store: JournalStore, notifier: Callable[[str], Notifier | None], telling: Telling) -> None:
        self._store = store
        self._notifier = notifier
        self._telling = telling

    def put(self, key: str, text: str, link: str | None) -> None:
        """Returns at once. The same key again updates what people see. How keys are read: `delivery/notices.py`."""
        self._telling.soon(f"notice {key}", lambda: self._put(key, text, link))

    def newest(self, key: str, text: str, link: str | None) -> None:
        """As `put`, for what is worth telling only while nothing newer of this key is waiting."""
        self._telling.newest(f"notice {key}", lambda: self._put(key, text, link))

    def _put(self, key: str, text: str, link: str | None) -> None:
        self._store.put_notice(key, text, link)
        send_notices(self._store, self._notifier)


# Longer than any one notice takes; after that a sender that died is replaced.
SENDING = timedelta(seconds=60)


def send_notices(store: JournalStore, notifier: Callable[[str], Notifier | None]) -> int:
    """Sends what waits in the outboxes and returns how many went out. `notifier` gives the one for a notice's key; None: logged only.

    One sender at a time per environment, so that no message is posted by two; an environment's dead Slack holds up no other's.
    """
    return sum(_empty(store, outbox, notifier) for outbox in within_reach(store.outboxes()))


def within_reach(outboxes: Iterable[str]) -> tuple[str, ...]:
    """Those that this process can empty. What Prefect is told comes last: a dead server then costs people nothing."""
    found = tuple(outboxes)
    people = tuple(one for one in found if one != EVENTS)
    return (*people, EVENTS) if EVENTS in found and is_prefect_named() else people


def _empty(store: JournalStore, environment: str, notifier: Callable[[str], Notifier | None]) -> int:
    """The first one that fails ends the round: what is behind it would most likely wait for the same dead Slack."""
    holder, sent, failed, pause = uuid4().hex, 0, False, timedelta()
    if not store.take_outbox(environment, holder=holder, ttl=SENDING):
        return 0
    try:
        for number, key, text, link in store.unsent_notices(environment=environment):
            if not store.take_outbox(environment, holder=holder, ttl=SENDING):
                break
            try:
                if teller := notifier(key):
                    teller.post(key, text, link=link)
                    sent += 1
            except Undeliverable as refused:
                log.warning("Notice %s is lost: %s", key, refused)
            except Exception as broken:  # noqa: BLE001  nothing that is only told may matter
                log.info("notice %s waits: %s", key, broken if isinstance(broken, DeliveryError) else type(broken).__name__)
                failed, pause = True, timedelta(seconds=broken.seconds) if isinstance(broken, TryLater) else pause
                break
            store.mark_sent(number)
    finally:
        store.leave_outbox(environment, holder=holder, failed=failed, pause=pause)
    return sent


class RunView:
    """The flow run as people see it: its name tells the step, an artifact the progress. Without a run (`run_id` None) it is silent."""

    def __init__(self, telling: Telling, run_id: UUID | None, *, name: str) -> None:
        self._telling = telling
        self._run_id = run_id
        self._name = name
        self._progress_id: UUID | None = None

    def at(self, where: str) -> None:
        """Renames the run: `v1.1.0 3f2a1bc9: staging, shift-50`."""
        if run_id := self._run_id:
            self._telling.newest("the run's name", lambda: _rename(run_id, f"{self._name}: {where}"))

    def progress(self, share: float, text: str, *, key: str) -> None:
        """Shows how far a rollout is, `share` from 0 to 1."""
        if run_id := self._run_id:
            self._telling.newest("the progress", lambda: self._show_progress(run_id, share, text, key))

    def document(self, key: str, markdown: str, *, description: str) -> None:
        """Leaves a Markdown artifact at once: to be called by the telling thread. Keys are lower case, digits and dashes."""
        self._leave(key, "markdown", markdown, description)

    def table(self, key: str, rows: Sequence[Mapping[str, object]], *, description: str) -> None:
        """Leaves a table artifact, as `document` does."""
        self._leave(key, "table", json.dumps(rows, default=str), description)

    def _leave(self, key: str, kind: str, data: str, description: str) -> None:
        if self._run_id:
            leave_artifact(self._run_id, key, kind, data, description)

    def _show_progress(self, run_id: UUID, share: float, text: str, key: str) -> None:
        percent = round(100 * share, 1)
        with get_client(sync_client=True) as client:
            if self._progress_id is None:
                made = ArtifactCreate(key=key, type="progress", data=percent, description=redacted(text), flow_run_id=run_id)
                self._progress_id = client.create_artifact(made).id
            else:
                client.update_artifact(self._progress_id, ArtifactUpdate(data=percent, description=redacted(text)))


def leave_artifact(run_id: UUID, key: str, kind: str, data: str, description: str) -> UUID:
    """Saves an artifact of the run at once and returns its id. Raises what Prefect's client raises."""
    clean = json.dumps(redacted_within(json.loads(data))) if kind == "table" else redacted(data)
    with get_client(sync_client=True) as client:
        artifact = ArtifactCreate(key=key, type=kind, data=clean, description=redacted(description), flow_run_id=run_id)
        return client.create_artifact(artifact).id


def left_artifact(run_id: UUID, key: str) -> UUID | None:
    """The id of the artifact of that key which the run has left already."""
    with get_client(sync_client=True) as client:
        left = ArtifactFilter(key=ArtifactFilterKey(any_=[key]), flow_run_id=ArtifactFilterFlowRunId(any_=[run_id]))
        found = client.read_artifacts(artifact_filter=left, limit=1)
    return found[0].id if found else None


def this_run() -> UUID | None:
    """The flow run that this code is part of, or None outside Prefect."""
    context = FlowRunContext.get()
    return context.flow_run.id if context and context.flow_run else None


def this_run_was_asked_for_at() -> datetime | None:
    """When the flow run that this code is part of was made, by the server's clock; it stays the same when Prefect starts the run again."""
    context = FlowRunContext.get()
    return context.flow_run.created if context and context.flow_run else None


def _rename(run_id: UUID, name: str) -> None:
    with get_client(sync_client=True) as client:
        client.update_flow_run(run_id, name=redacted(name)[:200])
