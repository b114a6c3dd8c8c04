"""Processes of the harness: forked from a server that has imported everything, watched, and ended one by one."""

import json
import multiprocessing
import os
import signal
import time
from functools import cache
from multiprocessing.context import ForkServerContext
from multiprocessing.process import BaseProcess
from pathlib import Path
from typing import Any

from delivery.errors import DeliveryError
from deployments.processes import wait_until
from tests.chaos.real.walker import Spec, run


@cache
def context() -> ForkServerContext:
    made = multiprocessing.get_context("forkserver")
    made.set_forkserver_preload(["tests.chaos.real.walker", "tests.chaos.real.load"])
    return made


class Running:
    """One process that carries out a spec."""

    def __init__(self, spec: Spec) -> None:
        self.spec = spec
        self.began = time.monotonic()
        self.ended: float | None = None
        # A BaseProcess of this context; the stubs know only its parent class.
        self._process: BaseProcess = context().Process(target=run, args=(spec,), daemon=True)
        self._process.start()

    @property
    def pid(self) -> int:
        return int(self._process.pid or 0)

    @property
    def lives(self) -> bool:
        return self._process.is_alive()

    @property
    def was_killed(self) -> bool:
        return self._process.exitcode == -signal.SIGKILL

    def wait(self, seconds: float = 90.0) -> dict[str, Any]:
        """Its end, and what it told (nothing when it was killed). One that does not end is killed and told of."""
        self._process.join(seconds)
        if self._process.is_alive():
            self.kill()
            raise DeliveryError(f"{self.spec.who} did not end within {seconds:.0f} s.", next=f"look at {self.spec.outcome}.log")
        self.ended = self.ended or time.monotonic()
        file = Path(self.spec.outcome)
        told: dict[str, Any] = json.loads(file.read_text()) if file.exists() else {}
        if not told and not self.was_killed:
            raise DeliveryError(f"{self.spec.who} broke ({self._process.exitcode}).", next=f"look at {self.spec.outcome}.log")
        return told

    def wait_until_struck(self, seconds: float = 60.0) -> bool:
        """Whether its point was reached; False when it ended without."""
        point = self.spec.point
        if point is None:
            return False
        wait_until(lambda: point.reached.exists() or not self.lives, what=f"the point {point.name}", seconds=seconds)
        return point.reached.exists()

    def wait_until_frozen(self, seconds: float = 10.0) -> None:
        wait_until(lambda: _state(self.pid) == "T", what="the freeze", seconds=seconds)

    def signal(self, number: signal.Signals) -> None:
        os.kill(self.pid, number)

    def let_go(self) -> None:
        if self.spec.point:
            self.spec.point.go.touch()

    def kill(self) -> None:
        if self._process.is_alive():
            self._process.kill()
            self._process.join(10)


def _state(pid: int) -> str:
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0]
    except OSError:
        return ""
