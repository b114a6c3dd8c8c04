"""A release that is turned back while users are on it, with a real database, real images and the real traffic layer: its schema goes back
with it where the environment allows that, and stays where it does not. Nobody loses a request either way.
"""

import threading
import time
from dataclasses import dataclass, field
from datetime import timedelta
from pathlib import Path

import pytest

from bench.stand import Stand
from delivery.downgrade import DowngradePolicy
from delivery.environment import ApprovalPolicy, Deadlines, Environment, Proving, Traffic
from delivery.journal import Closed, Ending, Event, Finished
from delivery.plan import plan_rollout
from delivery.release import Release
from tasks.lease import LeaseKeeper
from tasks.rollout import Means, walk_rollout
from tests.blocks.targets.asking import users
from tests.memory_journal import MemoryJournal
from tests.samples import an_environment
from tests.system.apart import VARIABLES, Apart

pytestmark = pytest.mark.docker

REVERSIBLE = '''"""A note on each listing.

reversible: yes
"""

import sqlalchemy as sa
from alembic import op

revision, down_revision = "0003", "0002"


def upgrade() -> None:
    op.add_column("listings", sa.Column("note_of_a_test", sa.Text))


def downgrade() -> None:
    op.drop_column("listings", "note_of_a_test")
'''


@dataclass
class House:
    """An environment with a journal of its own. A rollout is turned back by a person as soon as users are on the new version."""

    apart: Apart
    folder: Path
    store: MemoryJournal = field(default_factory=lambda: MemoryJournal(time.monotonic))

    def environment(self, policy: DowngradePolicy) -> Environment:
        return an_environment(
            self.apart.target.environment,
            prove=Proving(clone=True, smoke=True, load=False),
            approval=ApprovalPolicy("automatic"),
            downgrade=policy,
            variables=VARIABLES,
            trigger=(),
            traffic=Traffic(steps=(50, 100), watch_seconds=0, bake_seconds=0, hold_seconds=0),
            deadlines=Deadlines(prepare_seconds=120, migrate_seconds=120, prove_seconds=240, launch_seconds=120, step_seconds=60),
        )

    def roll_out(self, release: Release, blue: Release | None, policy: DowngradePolicy, *, turned_back: bool) -> tuple[Closed, str]:
        """How it ended, and what became of the schema."""
        environment, target, stop = self.environment(policy), self.apart.target, threading.Event()
        plan = plan_rollout(release, environment, capabilities=target.capabilities, blue=blue)

        def hear(event: Event, when: str) -> None:
            if turned_back and when == "after" and isinstance(event, Finished) and event.step == "shift-50":
                stop.set()

        self.store.spoil = hear
        self.store.save_release(release)
        with LeaseKeeper(
            self.store, environment.name, holder="a test", purpose="a rollout", ttl=timedelta(hours=1), clock=time.monotonic
        ) as keeper:
            rollout = self.store.open_rollout(keeper.lease, plan, by="a test")
            closed = walk_rollout(self.store, keeper, rollout, Means(target, None, self.folder), stop=stop)
        events = [entry.event for entry in self.store.entries(rollout)]
        told = [event.evidence.summary for event in events if isinstance(event, Finished) and event.step == "downgrade"]
        return closed, told[0] if told else ""


@pytest.fixture(scope="module")
def house(apart: Apart, tmp_path_factory: pytest.TempPathFactory) -> House:
    return House(apart, tmp_path_factory.mktemp("rollouts"))


@pytest.fixture(scope="module")
def live(house: House) -> Release:
    house.apart.repository.commit_release("1.1.0")
    release = house.apart.release("1.1.0", services=("api",))
    closed, _ = house.roll_out(release, None, DowngradePolicy(), turned_back=False)
    assert closed.ending is Ending.LIVE, closed.message
    return release


@pytest.mark.parametrize(
    ("version", "policy", "what", "revision"),
    [
        ("1.3.0", "if-safe", "the schema is at 0002, from 0003", "0002"),
        ("1.3.1", "never", "", "0003"),
    ],
)
def test_a_release_that_users_were_on_takes_its_schema_back_only_where_that_is_allowed_and_nobody_loses_a_request(
    house: House, live: Release, stand: Stand, version: str, policy: str, what: str, revision: str
) -> None:
    repository = house.apart.repository
    repository.commit_release("1.1.0")
    (repository.path / "api/migrations/versions/0003_of_a_test.py").write_text(REVERSIBLE)
    release = house.apart.release(version, recorded=("0002",), services=("api",))
    with users(stand.url) as asking:
        closed, told = house.roll_out(release, live, DowngradePolicy(policy), turned_back=True)  # type: ignore[arg-type]
    assert (closed.ending, told) == (Ending.ROLLED_BACK, what), closed.message
    assert house.apart.revision() == revision
    assert (asking.lost, asking.answered > 0) == ([], True)
    assert house.apart.target.observe().weights == {live.id: 100}
