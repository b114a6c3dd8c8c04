"""A house of two environments on simulated platforms: everything of a flow but Prefect and Docker."""

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

from blocks.journal import SqlJournal
from blocks.settings import settings
from delivery.environment import Kind
from delivery.errors import DeliveryError, TransientError
from delivery.journal import Ending
from delivery.plan import plan_rollout
from delivery.record import RolloutRecord
from delivery.release import Release
from flows.assembly import House, LocalBlocks
from flows.rollout import run_rollout
from flows.telling import Telling
from tests.samples import a_release
from tests.simulated_target import SimulatedTarget

STAGING = """\
[environment]
name = "staging"
target = "staging"
[approval]
policy = "automatic"
[traffic]
steps = [100]
watch_seconds = 0
bake_seconds = 0
hold_seconds = 0
[prove]
smoke = false
[provenance]
required = false
"""

PRODUCTION = """\
[environment]
name = "production"
target = "docker-target/production"
after = "staging"
[approval]
policy = "form"
quorum = 1
expires_hours = 2
automatic_for = ["hotfix"]
[traffic]
steps = [50, 100]
watch_seconds = 0
bake_seconds = 0
hold_seconds = 900
[prove]
smoke = false
[provenance]
required = false
"""


@pytest.hookimpl(tryfirst=True)  # before the tests that nobody asked for are left out
def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Whatever uses the stage is a story, and none for the fast suite."""
    for item in items:
        if "stage" in getattr(item, "fixturenames", ()) and item.path.parent.name == "flows":
            item.add_marker(pytest.mark.stories)


@dataclass
class Stage:
    """The house, its two platforms, and shortcuts that stories begin with."""

    house: House
    targets: dict[str, SimulatedTarget]
    environments: Path

    @property
    def production(self) -> SimulatedTarget:
        return self.targets["production"]

    def bring(self, release: Release, environment: str, kind: Kind = "normal", **changes: object) -> RolloutRecord:
        """A rollout as the pipeline or promote carries one out."""
        policy = self.house.environment(environment)
        live = self.house.store.live(environment)
        plan = plan_rollout(release, policy, capabilities=self.targets[environment].capabilities, blue=live, kind=kind)
        with Telling() as telling:
            return run_rollout(self.house, plan, by="a test", telling=telling, **changes)  # type: ignore[arg-type]

    def published(self, version: str) -> Release:
        release = a_release(version, load=None, smoke=())
        self.house.store.save_release(release)
        return release

    def on_staging(self, version: str) -> Release:
        release = self.published(version)
        self.bring(release, "staging")
        return release

    def stuck(self, version: str, refusal: DeliveryError | None = None) -> RolloutRecord:
        """A rollout to production that can neither go on from its promotion nor back; the platform works again afterwards."""
        refused = refusal or DeliveryError("The platform refused.", next="look.")

        def break_it(verb: str, when: str) -> None:
            if (verb, when) == ("promote", "before"):
                self.production.fail("promote", 9, refused)
                self.production.fail("shift", 9, refused)

        self.production.spoil = break_it
        record = self.bring(self.published(version), "production")
        self.production.spoil = lambda _verb, _when: None
        self.production._failures.clear()
        assert record.ending is Ending.NEEDS_HUMAN
        return record


class Remembering:
    """A notifier that keeps what it is told; `broken` makes it dead."""

    def __init__(self, *, broken: bool = False) -> None:
        self.told: list[tuple[str, str]] = []
        self.broken = broken

    def post(self, key: str, text: str, *, link: str | None = None) -> None:
        if self.broken:
            raise TransientError("Slack did not answer.", next="nothing.")
        self.told.append((key, text if link is None else f"{text} {link}"))


@pytest.fixture
def stage(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Stage]:
    environments = tmp_path / "environments"
    environments.mkdir()
    (environments / "staging.toml").write_text(STAGING)
    (environments / "production.toml").write_text(PRODUCTION)
    monkeypatch.setenv("GREENROOM_ENVIRONMENTS_DIR", str(environments))
    monkeypatch.setenv("GREENROOM_WORK_DIR", str(tmp_path / "work"))
    monkeypatch.setenv("GREENROOM_DATABASE_URL", f"sqlite:///{tmp_path / 'journal.db'}")
    targets = {name: SimulatedTarget() for name in ("staging", "production")}
    store = SqlJournal(f"sqlite:///{tmp_path / 'journal.db'}")
    store.migrate()
    blocks = LocalBlocks({("docker-target", name): target for name, target in targets.items()})
    yield Stage(House(settings(), store, blocks), targets, environments)
    store.close()
    assert [target.violations for target in targets.values()] == [[], []]


@pytest.fixture
def edit_environment(stage: Stage) -> Callable[[str, str, str], None]:
    """Replaces a text in an environment file."""

    def edit(name: str, old: str, new: str) -> None:
        file = stage.environments / f"{name}.toml"
        text = file.read_text()
        assert old in text
        file.write_text(text.replace(old, new))

    return edit
