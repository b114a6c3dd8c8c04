"""Every effect that a walking process has on the world, with a name, noted before and after it, and a point at which something strikes.

Installed from outside in the processes of these tests: the product knows nothing of it. An effect's name is `<step>/<kind> <what>`, for
instance `launch/create api-0`; one that comes again within its step is `…#2`.
"""

import contextlib
import functools
import json
import os
import signal
import threading
import time
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, TypeVar

import docker.errors

from blocks.engine import Engine
from blocks.journal import SqlJournal
from blocks.traefik import TraefikRoutes
from delivery.image import ImageRef
from delivery.journal import Event, Finished, Started
from delivery.record import Lease

T = TypeVar("T")
Strike = Literal["kill", "cancel", "freeze", "wait"]
LONGEST_WAIT_SECONDS = 60.0


@dataclass(frozen=True)
class Point:
    """Where something strikes, and what: SIGKILL, SIGTERM, SIGSTOP, or a wait until `<flag>.go` is there; `<flag>.reached` tells."""

    name: str
    when: Literal["before", "after"]
    strike: Strike
    flag: str

    @property
    def reached(self) -> Path:
        return Path(f"{self.flag}.reached")

    @property
    def go(self) -> Path:
        return Path(f"{self.flag}.go")


@dataclass(frozen=True)
class Effect:
    """One line of the log. `at` is the machine's steady clock; `fence` is the lease's of the process that acted."""

    at: float
    pid: int
    who: str
    fence: int | None
    name: str
    kind: str
    what: str
    release: str
    when: str
    facts: dict[str, Any]

    @property
    def step(self) -> str:
        return self.name.split("/")[0]


def read_effects(file: Path, offset: int = 0) -> list[Effect]:
    """In the order in which they were noted, over all processes."""
    if not file.exists():
        return []
    with file.open("rb") as stream:
        stream.seek(offset)
        return [Effect(**json.loads(line)) for line in stream if line.endswith(b"\n")]


class Recorder:
    """Notes the effects of this process, and strikes at `point` once."""

    def __init__(self, file: Path, who: str, point: Point | None) -> None:
        file.parent.mkdir(parents=True, exist_ok=True)
        self._file = os.open(file, os.O_APPEND | os.O_CREAT | os.O_WRONLY, 0o600)
        self._who = who
        self._point = point
        self._lock = threading.Lock()
        self._seen: Counter[str] = Counter()
        self.step = "open"
        self.fence: int | None = None

    def around(self, kind: str, what: str, call: Callable[[], T], *, release: str = "", facts: dict[str, Any] | None = None) -> T:
        with self._lock:
            plain = f"{self.step}/{kind} {what}".strip()
            self._seen[plain] += 1
            name = plain if self._seen[plain] == 1 else f"{plain}#{self._seen[plain]}"
        told = {"name": name, "kind": kind, "what": what, "release": release, "facts": facts or {}}
        self._strike(name, "before")
        self._note("begin", told)
        try:
            result = call()
        except BaseException as broken:
            with self._lock:
                self._seen[plain] -= 1  # tried again it is the same effect
            self._note("broke", {**told, "facts": {**(facts or {}), "error": f"{type(broken).__name__}: {broken}"[:300]}})
            raise
        self._note("done", told)
        self._strike(name, "after")
        return result

    def _note(self, when: str, told: dict[str, Any]) -> None:
        line = {"at": time.monotonic(), "pid": os.getpid(), "who": self._who, "fence": self.fence, "when": when, **told}
        # One write of a line: whoever else appends cannot come between, and a kill cannot halve it.
        os.write(self._file, f"{json.dumps(line)}\n".encode())

    def _strike(self, name: str, when: str) -> None:
        with self._lock:
            point = self._point
            if point is None or (point.name, point.when) != (name, when):
                return
            self._point = None
        self._note("strike", {"name": name, "kind": point.strike, "what": when, "release": "", "facts": {}})
        point.reached.touch()
        match point.strike:
            case "kill":
                os.kill(os.getpid(), signal.SIGKILL)
                time.sleep(LONGEST_WAIT_SECONDS)
            case "cancel":
                os.kill(os.getpid(), signal.SIGTERM)
            case "freeze":
                os.kill(os.getpid(), signal.SIGSTOP)
            case "wait":
                until = time.monotonic() + LONGEST_WAIT_SECONDS
                while not point.go.exists() and time.monotonic() < until:
                    time.sleep(0.01)


def install(recorder: Recorder) -> None:
    """From now on this process' effects on engine, Traefik's files and journal are noted."""
    _watch_engine(recorder)
    _watch_files(recorder)
    _watch_journal(recorder)


def replaced(owner: type[Any], name: str, made: object) -> None:
    """In this process, from outside: the types of what is replaced and what replaces it are not the same for a type checker."""
    setattr(owner, name, made)


# ---- the engine

_ENGINE = ("pull", "create_network", "remove_network", "create", "connect", "start", "stop", "kill", "remove")


def _watch_engine(recorder: Recorder) -> None:
    known: dict[str, tuple[str, str]] = {}  # containers by id: (service-replica, release)

    def whose(engine: Engine, container: str) -> tuple[str, str]:
        if container not in known:
            known[container] = (container[:12], "")
            with contextlib.suppress(docker.errors.DockerException):
                labels = engine._api.inspect_container(container)["Config"]["Labels"] or {}
                known[container] = _short(labels)
        return known[container]

    def watched(name: str, original: Callable[..., Any]) -> Callable[..., Any]:
        @functools.wraps(original)
        def wrapped(engine: Engine, subject: Any, *arguments: Any, **named: Any) -> Any:
            def call() -> Any:
                return original(engine, subject, *arguments, **named)

            if name == "create":  # the subject is a blueprint
                what, release = _short({f"greenroom.{key}": value for key, value in subject.labels.items()})
                made = recorder.around(name, what, call, release=release, facts={"label_fence": subject.labels.get("fence")})
                known[made] = (what, release)
                return made
            if isinstance(subject, ImageRef):
                return recorder.around(name, subject.repository.rsplit("-", 1)[-1], call)
            if "network" in name:
                return recorder.around(name, "", call)
            what, release = whose(engine, subject)
            return recorder.around(name, what, call, release=release)

        return wrapped

    for name in _ENGINE:
        replaced(Engine, name, watched(name, getattr(Engine, name)))


def _short(labels: dict[str, str]) -> tuple[str, str]:
    return f"{labels.get('greenroom.service', '?')}-{labels.get('greenroom.replica', '?')}", labels.get("greenroom.release", "")


# ---- Traefik's files: what appears by a rename


def _watch_files(recorder: Recorder) -> None:
    def watched(original: Callable[[Path, Any], Path]) -> Callable[[Path, Any], Path]:
        @functools.wraps(original)
        def wrapped(path: Path, target: Any) -> Path:
            found = Path(target)
            twin = " twin" if found.stem.endswith("~") else ""
            if found.suffix == ".yml":
                what, facts = f"routing{twin}", _weights_of(path)
            elif found.suffix == ".json" and ".state" in found.name:
                what, facts = f"state{twin}", _state_of(path)
            else:
                return original(path, target)
            return recorder.around("write", what, lambda: original(path, target), facts=facts)

        return wrapped

    replaced(Path, "rename", watched(Path.rename))
    replaced(Path, "replace", watched(Path.replace))
    apply = TraefikRoutes.apply

    @functools.wraps(apply)
    def applied(routes: TraefikRoutes, *arguments: Any, **named: Any) -> Any:
        # Not an effect of its own, but the last moment before the target looks at the token.
        return recorder.around("apply", "", lambda: apply(routes, *arguments, **named))

    replaced(TraefikRoutes, "apply", applied)


def _weights_of(file: Path) -> dict[str, Any]:
    """The release's shares in a dynamic file, from the weighted services' children (`environment.service.release`)."""
    services = (json.loads(file.read_text()).get("http") or {}).get("services") or {}
    children = [child for service in services.values() for child in service.get("weighted", {}).get("services", ())]
    return {"weights": {child["name"].split(".", 2)[2]: child.get("weight", 0) for child in children}}


def _state_of(file: Path) -> dict[str, Any]:
    state = json.loads(file.read_text())
    return {"fence": state["fence"], "weights": {release: route["weight"] for release, route in state["releases"].items()}}


# ---- the journal


def _watch_journal(recorder: Recorder) -> None:
    append, acquire, give_up, opening = SqlJournal._append, SqlJournal.acquire, SqlJournal.give_up, SqlJournal.open_rollout

    @functools.wraps(append)
    def appended(journal: SqlJournal, rollout: str, lease: Lease, events: tuple[Event, ...]) -> None:
        first = events[0]
        if isinstance(first, Started):
            recorder.step = first.step
        elif not isinstance(first, Finished):
            recorder.step = "close" if type(first).__name__ == "Closed" else "turn back"
        facts: dict[str, Any] = {"rollout": rollout, "events": [type(event).__name__ for event in events]}
        for event in events:
            if isinstance(event, Finished):
                facts |= {"well": event.evidence.well, "summary": event.evidence.summary[:200]}
        recorder.around("journal", type(events[-1]).__name__, lambda: append(journal, rollout, lease, events), facts=facts)

    @functools.wraps(acquire)
    def acquired(journal: SqlJournal, environment: str, **named: Any) -> Lease:
        recorder.step = "retire" if str(named.get("purpose", "")).startswith("retiring") else "open"
        lease = recorder.around("lease", "taken", lambda: acquire(journal, environment, **named))
        recorder.fence = lease.fence
        return lease

    @functools.wraps(give_up)
    def given_up(journal: SqlJournal, lease: Lease) -> None:
        recorder.around("lease", "given up", lambda: give_up(journal, lease))

    @functools.wraps(opening)
    def opened(journal: SqlJournal, lease: Lease, plan: Any, **named: Any) -> str:
        return recorder.around("journal", "Opened", lambda: opening(journal, lease, plan, **named))

    replaced(SqlJournal, "_append", appended)
    replaced(SqlJournal, "acquire", acquired)
    replaced(SqlJournal, "give_up", given_up)
    replaced(SqlJournal, "open_rollout", opened)
