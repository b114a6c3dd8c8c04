"""The simulated platform for several processes at once: its state lies in a file, behind a lock that each verb takes."""

import fcntl
import json
import os
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field
from pathlib import Path

from delivery.environment import Standing
from delivery.health import HealthReport
from delivery.ports import Token
from delivery.release import Release
from tests.simulated_target import Running, SimulatedTarget

KEPT = ("weights", "live", "fence", "acts", "violations", "history")


@dataclass
class SharedTarget(SimulatedTarget):
    """`arriving` is called with each changing verb before the lock is taken, so that a test can freeze or kill its process there.

    `history` has a row for each act: the fence it was done with, by which process, and what.
    """

    file: Path = Path("platform.json")
    arriving: Callable[[str], None] = lambda _verb: None
    history: list[tuple[int, int, str]] = field(default_factory=list)

    def observe(self) -> Standing:
        with self._state():
            return super().observe()

    def check(self, release: Release, patterns: Sequence[str] = ()) -> HealthReport:
        with self._state():
            return super().check(release, patterns)

    def start_with(self, release: Release) -> None:
        with self._state():
            self.serve(release)

    def look(self) -> "SharedTarget":
        """Itself, as the platform stands now."""
        with self._state():
            return self

    def _do(self, told: str, release: Release, token: Token, act: Callable[[], None], *, verb: str | None = None) -> None:
        self.arriving(verb or told)
        with self._state():
            super()._do(told, release, token, act, verb=verb)
            self.history.append((token.fence, os.getpid(), told))

    @contextmanager
    def _state(self) -> Iterator[None]:
        with self.file.with_suffix(".lock").open("w") as lock:
            fcntl.flock(lock, fcntl.LOCK_EX)
            if self.file.exists():
                kept = json.loads(self.file.read_text())
                for name in KEPT:
                    setattr(self, name, kept[name])
                self.releases = {release: Running(**state) for release, state in kept["releases"].items()}
            yield
            states = {release: asdict(state) for release, state in self.releases.items()}
            self.file.write_text(json.dumps({**{name: getattr(self, name) for name in KEPT}, "releases": states}))
