"""The password of a database is renewed under its users, with a real database, real images and the real traffic layer. Whoever carries it
out may die at each step: nobody loses a request, and whoever looks next goes on.
"""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import psycopg
import pytest
from psycopg import sql

from bench.stand import Stand
from blocks.journal import SqlJournal
from blocks.secrets import EnvironmentSecrets
from blocks.settings import settings
from delivery.journal import Ending, Event, Finished
from delivery.record import RolloutRecord
from delivery.release import Release
from delivery.rotation import Rotation, RotationStep
from flows.assembly import House, LocalBlocks
from flows.promote import ask, carry_out
from flows.rollout import tidy_up
from flows.rotation import look
from flows.telling import Telling
from tests.blocks.targets.asking import users
from tests.system.apart import VARIABLES, Apart

pytestmark = pytest.mark.docker

NAME = "DATABASE_URL"
FILE = """\
[environment]
name = "{name}"
target = "docker-target/{name}"
[approval]
policy = "automatic"
[traffic]
steps = [50, 100]
watch_seconds = 0
bake_seconds = 0
hold_seconds = 0
[prove]
clone = false
smoke = true
load = false
[backup]
before_migrations = false
[provenance]
required = false
[variables]
{variables}
[secrets.DATABASE_URL]
owner = "Bea"
version = {version}
created = "{today}"
"""


class Killed(BaseException):
    """Whoever walks is gone, in the middle of the act."""


@dataclass
class Shop:
    """An environment whose database has an owner and two roles to log in with."""

    apart: Apart
    folder: Path
    store: SqlJournal
    secrets: Mapping[str, str]

    def house(self) -> House:
        """As a process has it that starts now."""
        target = self.apart.target.model_copy(update={"secrets": EnvironmentSecrets(values=dict(self.secrets))})
        return House(settings(), self.store, LocalBlocks({("docker-target", self.name): target}))

    @property
    def name(self) -> str:
        return self.apart.target.environment

    def url(self, role: str, password: str) -> str:
        return f"postgresql+asyncpg://{role}:{password}@db:5432/{self.apart.database}"

    def file_names(self, version: int) -> None:
        variables = "\n".join(f'{name} = "{value}"' for name, value in VARIABLES.items())
        (self.folder / f"{self.name}.toml").write_text(
            FILE.format(name=self.name, variables=variables, version=version, today=self.store.now().date())
        )

    def bring(self, release: Release, kind: str, key: str) -> RolloutRecord:
        house = self.house()
        with Telling() as telling:
            request = ask(house, release.id, self.name, kind, key=key)  # type: ignore[arg-type]
            return carry_out(house, request, telling, approved_by=("a test",))

    def rotation(self) -> Rotation:
        return look(self.house(), self.name, NAME)

    def waits_for(self) -> tuple[RotationStep, str]:
        found = self.rotation().waits_for
        assert found is not None
        return found.step, found.what

    def administer(self, *statements: str) -> None:
        with psycopg.connect(self.apart.admin_url, autocommit=True) as connection:
            for statement in statements:
                connection.execute(sql.SQL(statement))  # type: ignore[arg-type]


@pytest.fixture
def shop(apart: Apart, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Shop]:
    monkeypatch.setenv("GREENROOM_ENVIRONMENTS_DIR", str(tmp_path))
    monkeypatch.setenv("GREENROOM_WORK_DIR", str(tmp_path / "work"))
    store = SqlJournal(f"sqlite:///{tmp_path / 'journal.db'}")
    store.migrate()
    assert apart.target.secrets is not None
    given = {name: value.get_secret_value() for name, value in apart.target.secrets.reveal().items()}
    shop = Shop(apart, tmp_path, store, given)
    shop.secrets = given | {NAME: shop.url("shop_one", "first-password-of-the-shop")}
    shop.administer(
        "CREATE ROLE shop_one LOGIN PASSWORD 'first-password-of-the-shop'",
        "CREATE ROLE shop_two LOGIN PASSWORD 'second-password-of-the-shop'",
        "GRANT ALL ON SCHEMA public TO shop_one",
    )
    shop.file_names(1)
    yield shop
    store.close()


def test_a_database_password_is_renewed_under_its_users_whoever_dies_on_the_way(
    shop: Shop, stand: Stand, monkeypatch: pytest.MonkeyPatch
) -> None:
    shop.apart.repository.commit_release("1.1.0")
    release = shop.apart.release("1.1.0", services=("api",))
    shop.store.save_release(release)
    assert shop.bring(release, "normal", "first").ending is Ending.LIVE
    assert shop.rotation().waits_for is None

    others = {name: value for name, value in shop.secrets.items() if name != NAME}
    first, second = shop.secrets[NAME], shop.url("shop_two", "second-password-of-the-shop")
    shop.secrets = others | {f"{NAME}@1": first, f"{NAME}@2": shop.url("shop_two", "mistyped-password-of-the-shop")}
    assert shop.waits_for() == (RotationStep.VERIFY, "the database refuses version 2")
    shop.secrets = others | {f"{NAME}@1": first, f"{NAME}@2": second}
    step, what = shop.waits_for()
    assert step is RotationStep.VERIFY
    assert what.startswith("shop_two may not do what shop_one may: CREATE on schema public")
    shop.administer("GRANT shop_one TO shop_two")
    assert shop.waits_for() == (RotationStep.NAME, "the environment's file names version 1")
    shop.file_names(2)
    assert shop.waits_for() == (RotationStep.ROLL_OUT, "the live release runs with version 1")

    with users(stand.url) as asking:
        for step_name in ("prepare", "launch", "check", "smoke", "shift-50", "shift-100", "promote", "drain"):
            with monkeypatch.context() as patch:
                _dies_in(step_name, patch)
                with pytest.raises(Killed):
                    shop.bring(release, "config", f"killed in {step_name}")
            tidy_up(shop.house(), shop.house().environment(shop.name))
            assert shop.store.rollouts(environment=shop.name)[0].ending is not None, step_name
        if shop.waits_for()[0] is RotationStep.ROLL_OUT:
            assert shop.bring(release, "config", "at last").ending is Ending.LIVE
        tidy_up(shop.house(), shop.house().environment(shop.name))
        assert shop.waits_for() == (RotationStep.DISABLE, "the database still lets in version 1")
        shop.administer("ALTER ROLE shop_one NOLOGIN")
        assert shop.waits_for() == (RotationStep.FORGET, "version 1 is still among the secrets")
        before = asking.answered
        shop.secrets = others | {f"{NAME}@2": second}
        rotation = shop.rotation()
        assert rotation.waits_for is None
        assert rotation.sentence().endswith("version 2 is the only one left, and everybody works with it.")
    assert asking.lost == []
    assert asking.answered > before
    live = shop.store.live(shop.name)
    assert live is not None
    assert (live.build, live.secrets) == (release.id, {NAME: 2})


def _dies_in(step: str, patch: pytest.MonkeyPatch) -> None:
    """The act is done, and nobody has written that down."""
    append = SqlJournal._append

    def interrupted(self: SqlJournal, rollout: str, lease: Any, events: tuple[Event, ...]) -> None:
        if any(isinstance(event, Finished) and event.step == step for event in events):
            raise Killed
        append(self, rollout, lease, events)

    patch.setattr(SqlJournal, "_append", interrupted)
