"""Real processes that die, freeze and meet, over one journal and one platform."""

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest

from blocks.journal import SqlJournal
from delivery.journal import Ending
from delivery.record import RolloutRecord
from tests.blocks.conftest import make_database, migrated_file, postgresql, url  # noqa: F401  fixtures: a journal of each kind
from tests.flows.rollout_process import BLUE, GREEN
from tests.shared_target import SharedTarget

pytestmark = pytest.mark.processes

PROGRAM = Path(__file__).with_name("rollout_process.py")
HOME = PROGRAM.parents[2]
PATIENCE_SECONDS = 180.0  # for machines that have other things to do
PRODUCTION = '[environment]\nname = "production"\ntarget = "docker-target/production"\n'


class Other:
    """Another process, which speaks in lines of JSON."""

    def __init__(self, environment: dict[str, str], *arguments: str) -> None:
        self._process = subprocess.Popen(
            [sys.executable, str(PROGRAM), *arguments],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
            cwd=HOME,
            env={**os.environ, **environment},
        )
        self.pid = self._process.pid

    def says(self) -> Any:
        assert self._process.stdout is not None
        line = self._process.stdout.readline()
        assert line, f"process {self.pid} ended without a word ({self._process.wait(PATIENCE_SECONDS)})"
        return json.loads(line)

    def is_killed(self) -> None:
        assert self._process.wait(PATIENCE_SECONDS) == -signal.SIGKILL

    def is_frozen(self) -> None:
        _, status = os.waitpid(self.pid, os.WUNTRACED)
        assert os.WIFSTOPPED(status)

    def send(self, number: signal.Signals) -> None:
        os.kill(self.pid, number)

    def go_on(self) -> None:
        assert self._process.stdin is not None
        self._process.stdin.write("\n")
        self._process.stdin.flush()

    def ends(self) -> int:
        return self._process.wait(PATIENCE_SECONDS)

    def remove(self) -> None:
        if self._process.poll() is None:
            self._process.kill()
            self._process.wait()
        for stream in (self._process.stdin, self._process.stdout):
            if stream is not None:
                stream.close()


@dataclass
class Scene:
    folder: Path
    url: str
    others: list[Other] = field(default_factory=list)

    def __post_init__(self) -> None:
        self.journal = SqlJournal(self.url)
        self.platform = SharedTarget(file=self.folder / "platform.json")
        self.platform.start_with(BLUE)
        (self.folder / "environments").mkdir()
        (self.folder / "environments" / "production.toml").write_text(PRODUCTION)

    def process(self, role: str, *incident: str, ttl: float = 1.0) -> Other:
        environment = {
            "GREENROOM_DATABASE_URL": self.url,
            "GREENROOM_WORK_DIR": str(self.folder),
            "GREENROOM_ENVIRONMENTS_DIR": str(self.folder / "environments"),
            "GREENROOM_LEASE_TTL_SECONDS": str(ttl),
            "PREFECT_API_URL": "http://127.0.0.1:9/api",
            "PREFECT_HOME": str(self.folder / "prefect"),
        }
        self.others.append(Other(environment, role, str(self.folder), *incident))
        return self.others[-1]

    def rollout(self) -> RolloutRecord:
        [record] = self.journal.rollouts()
        return record

    def until_nobody_holds_it(self) -> None:
        """Until the lease of the process that is gone has expired by the database's clock."""
        deadline = time.monotonic() + PATIENCE_SECONDS
        while any(lease.expires_at > self.journal.now() for lease in self.journal.leases()):
            assert time.monotonic() < deadline
            time.sleep(0.05)

    def until_ended(self) -> RolloutRecord:
        deadline = time.monotonic() + PATIENCE_SECONDS
        while self.rollout().ended_at is None:
            assert time.monotonic() < deadline, "nobody took the rollout over"
            time.sleep(0.05)
        return self.rollout()

    def require_back_on_blue(self) -> None:
        """The journal and the platform tell the same story, and fences have only risen."""
        record, platform = self.rollout(), self.platform.look()
        assert record.ending in (Ending.ROLLED_BACK, Ending.UNTOUCHED)
        self.journal.verify_chain(record.id)
        assert platform.violations == []
        assert (platform.weights.get(BLUE.id), platform.live) == (100, BLUE.id)
        assert GREEN.id not in platform.observe().running
        fences = [fence for fence, _, _ in platform.history]
        assert fences == sorted(fences)

    def acts_of(self, other: Other) -> list[str]:
        return [told for _, pid, told in self.platform.look().history if pid == other.pid]


@pytest.fixture
def scene(url: str, tmp_path: Path) -> Iterator[Scene]:  # noqa: F811  the fixture of that name
    scene = Scene(tmp_path, url)
    yield scene
    for other in scene.others:
        other.remove()
    scene.journal.close()


def test_of_two_processes_that_recover_the_same_rollout_at_once_exactly_one_acts(scene: Scene) -> None:
    walker = scene.process("walk", "promote", "kill")
    assert walker.says() == "here"
    walker.is_killed()
    scene.until_nobody_holds_it()
    # Whoever is first stops in its first act until the other has come and gone.
    both = [scene.process("recover", "shift", "wait", ttl=30.0) for _ in range(2)]
    words = [other.says() for other in both]
    assert words in (["here", []], [[], "here"])
    acting, idle = (both[0], both[1]) if words[0] == "here" else (both[1], both[0])
    acting.go_on()
    [message] = acting.says()
    assert message.startswith("Production is back on v1.0.0. v1.1.0 was turned back: abandoned by process")
    assert scene.acts_of(idle) == []
    assert len(scene.acts_of(acting)) > 0
    scene.require_back_on_blue()


# At `launch` the platform is what refuses, at an entry the journal.
@pytest.mark.parametrize("where", ["launch", "entry-12"])
def test_a_walker_that_was_frozen_beyond_its_lease_is_refused_by_platform_and_journal(scene: Scene, where: str) -> None:
    walker = scene.process("walk", where, "freeze")
    assert walker.says() == "here"
    walker.is_frozen()
    scene.until_nobody_holds_it()
    [_] = scene.process("recover").says()
    scene.require_back_on_blue()
    entries, platform = scene.journal.entries(scene.rollout().id), scene.platform.look().history
    walker.send(signal.SIGCONT)
    assert walker.says() == "StaleFence"
    assert scene.journal.entries(scene.rollout().id) == entries
    assert scene.platform.look().history == platform
    scene.require_back_on_blue()


def test_a_walker_that_was_killed_is_taken_over_by_one_of_two_stewards(
    scene: Scene, record_property: Callable[[str, object], None]
) -> None:
    stewards = [scene.process("steward", ttl=2.0) for _ in range(2)]
    assert [steward.says() for steward in stewards] == ["ready", "ready"]
    walker = scene.process("walk", "promote", "kill", ttl=2.0)
    assert walker.says() == "here"
    killed_at = time.monotonic()
    walker.is_killed()
    record = scene.until_ended()
    record_property("seconds from the kill to the end", round(time.monotonic() - killed_at, 1))
    assert (record.message or "").startswith("Production is back on v1.0.0. v1.1.0 was turned back: abandoned by process")
    for steward in stewards:
        steward.send(signal.SIGTERM)
        assert steward.says() == "ended"
        assert steward.ends() == 0
    scene.require_back_on_blue()
    assert sum(bool(scene.acts_of(steward)) for steward in stewards) == 1
