"""A platform in memory that keeps to the protocol, and notes every moment in which an invariant does not hold.

It is what the walk, recovery and ten thousand simulated rollouts are proven on; the same contract holds for the real targets.
"""

import json
import re
import threading
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import timedelta
from pathlib import Path

from delivery.environment import Capability, Standing
from delivery.errors import DeliveryError, StaleFence, TransientError
from delivery.health import Counters, HealthReport, ProbeResult
from delivery.ports import Address, MetricSource, RunResult, Target, Token
from delivery.release import Release
from tasks.image_alembic import MARK

BUCKETS = (0.05, 0.1, 0.5, 1.0, 3.0, float("inf"))


class Killed(BaseException):
    """The process that walks dies at this very point: it is not an error, and no `except Exception` sees it."""


class VirtualClock:
    """Time that passes only when somebody waits. `at` lets something happen at a given second."""

    def __init__(self) -> None:
        self.seconds = 0.0
        self._events: list[tuple[float, Callable[[], None]]] = []

    def now(self) -> float:
        return self.seconds

    def at(self, second: float, act: Callable[[], None]) -> None:
        self._events.append((second, act))
        self._events.sort(key=lambda event: event[0])

    def wait(self, seconds: float, stop: threading.Event | None = None) -> bool:
        until = self.seconds + max(0.0, seconds)
        while self._events and self._events[0][0] <= until:
            self.seconds, act = max(self.seconds, self._events[0][0]), self._events[0][1]
            self._events.pop(0)
            act()
            if stop is not None and stop.is_set():
                return True
        self.seconds = until
        return stop is not None and stop.is_set()


def told_of(command: Sequence[str]) -> str:
    """A command as stories name it; what goes into an image as text is named by its act."""
    act = re.search(r'"act": "(\w+)"', command[-1])
    return f"alembic {act[1]}" if act else " ".join(command)


@dataclass
class Running:
    """One release as the platform knows it."""

    up: bool = False
    died: bool = False
    workers: bool = False
    remains: bool = False
    checked: bool = False


@dataclass
class SimulatedTarget:
    """`fail(verb, times)` makes a verb break before it has done anything; `spoil` is called with (verb, "before" | "after") around each.

    `violations` collects broken invariants as sentences; a test that ends with any has found a bug. Verbs are recorded in `acts`.
    """

    capabilities: frozenset[Capability] = frozenset(Capability) - {Capability.BACK_UP}
    public_url: str | None = None
    weights: dict[str, int] = field(default_factory=dict)
    releases: dict[str, Running] = field(default_factory=dict)
    live: str | None = None
    fence: int = 0
    acts: list[str] = field(default_factory=list)
    violations: list[str] = field(default_factory=list)
    spoil: Callable[[str, str], None] = lambda _verb, _when: None
    reports: dict[str, HealthReport] = field(default_factory=dict)
    urls: dict[str, Sequence[Address]] = field(default_factory=dict)
    revision: str = "0001"
    command: Callable[[Sequence[str]], RunResult | None] | None = None
    on_change: Callable[[], None] = lambda: None
    variables: Mapping[str, str] = field(default_factory=dict)
    patterns: tuple[str, ...] = ()
    _failures: dict[str, list[DeliveryError]] = field(default_factory=dict)

    def fail(self, verb: str, times: int = 1, error: DeliveryError | None = None) -> None:
        broken = error or TransientError(f"{verb} did not work.", next="try again.")
        self._failures.setdefault(verb, []).extend([broken] * times)

    def serve(self, release: Release) -> None:
        """The starting point of most stories: this release is live and has every user."""
        self.releases[release.id] = Running(up=True, workers=True, checked=True)
        self.weights, self.live = {release.id: 100}, release.id

    # the protocol

    def observe(self) -> Standing:
        self._may_fail("observe")
        running = frozenset(name for name, state in self.releases.items() if state.up)
        present = frozenset(name for name, state in self.releases.items() if state.up or state.died or state.remains)
        return Standing(weights=dict(self.weights), running=running, fence=self.fence, present=present)

    def prepare(self, release: Release, token: Token) -> None:
        self._do("prepare", release, token, lambda: None)

    def run_once(
        self, release: Release, service: str, command: Sequence[str], *, variables: Mapping[str, str], timeout: timedelta, token: Token
    ) -> RunResult:
        assert timeout > timedelta(0)
        self.variables = dict(variables)
        release.service(service)
        results: list[RunResult] = []
        self._do(f"run {told_of(command)}", release, token, lambda: results.append(self._ran(command)), verb="run_once")
        return results[0]

    def launch(self, release: Release, *, variables: Mapping[str, str], token: Token) -> None:
        def up() -> None:
            self.variables = dict(variables)
            state = self._of(release)
            state.up, state.died, state.remains = True, False, False

        self._do("launch", release, token, up)

    def check(self, release: Release, patterns: Sequence[str] = ()) -> HealthReport:
        self._may_fail("check")
        self.patterns = tuple(patterns)
        state = self._of(release)
        report = self.reports.get(release.id) or HealthReport(
            (ProbeResult("api-1", well=state.up, detail="" if state.up else "it is not running."),), cpu=0.2, memory=0.3
        )
        state.checked = state.up and report.well
        return report

    def addresses(self, release: Release) -> Sequence[Address]:
        return self.urls.get(release.id, ())

    def shift(self, release: Release, *, percent: int, rest: Release | None, token: Token) -> None:
        def move() -> None:
            wanted = {release.id: percent, **({rest.id: 100 - percent} if rest else {})}
            for name, share in wanted.items():
                state = self.releases.get(name, Running())
                if share and not state.up:
                    raise DeliveryError(f"{name} is not up and cannot get users.", next="launch it first.")
                if share > self.weights.get(name, 0) and name != self.live and not state.checked:
                    self.violations.append(f"{name} got users before it was found well")
                state.workers = share > 0
            self.weights = {name: share for name, share in wanted.items() if share or name in self.releases}
            if not rest and not percent:
                self.weights = {}

        self._do(f"shift {percent}", release, token, move, verb="shift")

    def promote(self, release: Release, token: Token) -> None:
        def lead() -> None:
            if not self._of(release).up:
                raise DeliveryError(f"{release.id} is not up and cannot be promoted.", next="launch it first.")
            self.weights = {**dict.fromkeys(self.weights, 0), release.id: 100}
            self.live = release.id

        self._do("promote", release, token, lead)

    def drain(self, release: Release, token: Token) -> None:
        def idle() -> None:
            if self.weights.get(release.id, 0):
                self.violations.append(f"{release.id} was drained while it had users")
            self._of(release).workers = False

        self._do("drain", release, token, idle)

    def retire(self, release: Release, *, keep_remains: bool, token: Token) -> None:
        def stop() -> None:
            if self.weights.get(release.id, 0):
                raise DeliveryError(f"{release.id} has users and is not stopped.", next="give its users to another release first.")
            self.weights.pop(release.id, None)
            self.releases[release.id] = Running(remains=keep_remains)

        self._do("retire", release, token, stop)

    def collect_logs(self, release: Release, folder: Path) -> Sequence[Path]:
        self._may_fail("collect_logs")
        file = folder / f"{release.id}-api-1.log"
        file.write_text("a line\n")
        return (file,)

    # what holds it together

    def _of(self, release: Release) -> Running:
        return self.releases.setdefault(release.id, Running())

    def _ran(self, command: Sequence[str]) -> RunResult:
        if self.command is not None and (ended := self.command(command)) is not None:
            return ended
        if '"act": "upgrade"' in command[-1]:
            before, self.revision = self.revision, "0002"
            told = {"before": [before], "after": [self.revision], "applied": [{"id": "0002", "sha256": "0" * 64}], "tries": 1}
            return RunResult(0, ("INFO  [alembic.runtime.migration] Running upgrade 0001 -> 0002, prices", f"{MARK}{json.dumps(told)}"))
        return RunResult(0, ("done",))

    def _do(self, told: str, release: Release, token: Token, act: Callable[[], None], *, verb: str | None = None) -> None:
        name = verb or told
        if token.fence < self.fence:
            raise StaleFence(f"Fence {token.fence} is older than {self.fence}.", next="stop.")
        self.spoil(name, "before")
        self._may_fail(name)
        self.fence = token.fence
        self.on_change()  # whoever counts requests does so up to now
        self.acts.append(f"{told} {release.version.tag}")
        act()
        self._look_for_violations(told)
        self.spoil(name, "after")

    def _may_fail(self, verb: str) -> None:
        if waiting := self._failures.get(verb):
            raise waiting.pop(0)

    def _look_for_violations(self, told: str) -> None:
        if self.weights and sum(self.weights.values()) != 100:
            self.violations.append(f"after {told} the weights do not sum to 100: {self.weights}")
        for name, share in self.weights.items():
            if share and not self.releases.get(name, Running()).up:
                self.violations.append(f"after {told} {name} has {share} % of the users and is not up")


@dataclass
class SimulatedTraffic:
    """Users in virtual time: `per_second` requests spread by the target's weights; each release errs and dawdles as it is told to."""

    target: SimulatedTarget
    clock: VirtualClock
    per_second: float = 20.0
    error_share: dict[str, float] = field(default_factory=dict)
    seconds_each: dict[str, float] = field(default_factory=dict)
    silent: bool = False
    gauges: dict[str, float] = field(default_factory=dict)
    _counted_until: float = 0.0
    _codes: dict[str, dict[int, float]] = field(default_factory=dict)

    def __post_init__(self) -> None:
        self.target.on_change = self.count

    def count(self) -> None:
        """Accounts for the users since the last time, at the weights that held until now."""
        passed, self._counted_until = self.clock.now() - self._counted_until, self.clock.now()
        for release, share in self.target.weights.items():
            requests = self.per_second * passed * share / 100
            wrong = requests * self.error_share.get(release, 0.0)
            codes = self._codes.setdefault(release, {200: 0.0, 500: 0.0})
            codes[200] += requests - wrong
            codes[500] += wrong

    def scrape(self, releases: Iterable[Release]) -> Mapping[str, Counters]:
        self.count()
        if self.silent:
            raise TransientError("The metrics do not answer.", next="look at the traffic layer.")
        found = {}
        for release in releases:
            if codes := self._codes.get(release.id):
                total, each = sum(codes.values()), self.seconds_each.get(release.id, 0.04)
                found[release.id] = Counters(dict(codes), {bound: total if each <= bound else 0.0 for bound in BUCKETS})
        return found

    def gauges_of(self, release: Release) -> Mapping[str, float]:
        assert release.id in self.target.releases
        if self.silent:
            raise TransientError("The metrics do not answer.", next="look at the traffic layer.")
        return self.gauges


_: type[Target] = SimulatedTarget
__: type[MetricSource] = SimulatedTraffic
