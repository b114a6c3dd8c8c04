"""The example's API on a stand of its own: an environment with a database, without a pipeline around it."""

import shutil
import threading
from dataclasses import replace
from pathlib import Path

import psycopg

from bench.stand import ENTRY_POINT, Stand, token
from blocks.registry import OciRegistry
from blocks.secrets import EnvironmentSecrets
from blocks.settings import load_application
from blocks.targets.docker import DockerTarget
from delivery.application import Application
from delivery.environment import Proving
from delivery.journal import Evidence
from delivery.operations import MigrationWaiver
from delivery.plan import StepKind, plan_rollout
from delivery.release import Release
from delivery.source import Semver
from deployments.backing import POSTGRES, Backing
from deployments.base_images import ensure_base_images
from deployments.demo.repository import ApplicationRepository
from tasks.acts import perform_once
from tasks.build import build_images
from tasks.publish import publish
from tasks.review import Applied, review_migrations
from tasks.scene import Scene
from tasks.source import checkout
from tests.samples import an_environment

VARIABLES = {"ENVIRONMENT": "staging", "LOG_LEVEL": "WARNING", "JOB_SECONDS": "1"}
FAULTS = Path(__file__).parent / "faults"


def rename_a_column(repository: ApplicationRepository) -> None:
    """On top of 1.1.0. The new version reads the new name, so that all its own tests pass."""
    shutil.copytree(FAULTS / "renamed", repository.path, dirs_exist_ok=True)
    code = repository.path / "api" / "dealbrain"
    for file, before, after in (
        ("models.py", "    created_at: Mapped[datetime] = mapped_column(\n        Date", '"added_at", Date'),
        ("listings.py", "    Listing.created_at", '.label("created_at")'),
    ):
        text = (code / file).read_text()
        assert text.count(before) >= 1
        (code / file).write_text(text.replace(before, before.removesuffix("Date") + after, 1))


class Apart:
    """Releases of the API and its worker, or of other services; `target` is an environment of the stand with the backing's database."""

    def __init__(self, stand: Stand, name: str, backing: Backing, folder: Path) -> None:
        self.repository = ApplicationRepository.create(folder / "repository")
        self._stand, self._folder, self._backing = stand, folder, backing
        self.target: DockerTarget = stand.target(
            name,
            network=backing.network,
            memory_limit_mb=256,
            start_seconds=60,
            postgresql_image=ensure_base_images((POSTGRES,))[POSTGRES],
            secrets=EnvironmentSecrets(
                values={
                    "DATABASE_URL": backing.database_url(inside=True).get_secret_value(),
                    "REDIS_URL": backing.redis_url(inside=True).get_secret_value(),
                    "SECRET_KEY": "a secret of this place",
                }
            ),
            public_url=stand.traefik.url(ENTRY_POINT),
        )
        self.token = token(name)

    def release(self, version: str, *, recorded: tuple[str, ...] = (), services: tuple[str, ...] = ("api", "worker")) -> Release:
        """What is in the repository now, built, read and pushed. `recorded` is where the database stands."""
        work, bases = self._folder / "work", ensure_base_images()
        source = checkout.plain(str(self.repository.path), self.repository.commit(f"Release {version}"), work_dir=work)
        whole = load_application(Path(source.path) / "greenroom.toml")
        application: Application = replace(
            whole,
            service=tuple(replace(one, replicas=1) for one in whole.service if one.name in services),
            smoke=tuple(one for one in whole.smoke if one.service in services),
            hook=(),
        )
        images = build_images(source, application, Semver.parse(version), work_dir=work, base_images=bases)
        environments = {"staging": Applied(recorded, {})} if recorded else {}
        review = review_migrations.plain(images, source, application, environments=environments, strict=True)
        registry = OciRegistry(host=self._stand.registry.address, namespace="apart", insecure=True)
        return publish(images, source, application, Semver.parse(version), registry, review=review)

    def act(self, release: Release, blue: Release | None, kind: StepKind, *waivers: MigrationWaiver) -> Evidence:
        """One step of a rollout of `release` to the environment, where `blue` serves."""
        environment = an_environment(self.target.environment, prove=Proving(clone=True), variables=VARIABLES, waiver=waivers)
        plan = plan_rollout(release, environment, capabilities=self.target.capabilities, blue=blue)
        [step] = [step for step in plan.forward if step.kind is kind]
        step = replace(step, deadline_seconds=180)
        return perform_once(step, Scene(plan, self.target, None, self.token, lambda: None, threading.Event(), self.repository.path))

    def databases(self) -> set[str]:
        """Those of the server, templates left out."""
        with psycopg.connect(self.admin_url) as connection:
            return {name for (name,) in connection.execute("SELECT datname FROM pg_database WHERE NOT datistemplate").fetchall()}

    def revision(self) -> str:
        with psycopg.connect(self.admin_url) as connection:
            row = connection.execute("SELECT version_num FROM alembic_version").fetchone()
        return str(row[0]) if row else ""

    def make_database(self, name: str) -> None:
        with psycopg.connect(self.admin_url, autocommit=True) as connection:
            connection.execute(f'CREATE DATABASE "{name}"'.encode())

    def trials(self) -> list[str]:
        """Containers and networks that ran against a copy."""
        label = {"label": f"greenroom.trial={self.target.environment}"}
        found = [one.name or "" for one in self._stand.engine.containers.list(all=True, filters=label, ignore_removed=True)]
        return found + [one.name or "" for one in self._stand.engine.networks.list(filters=label)]

    @property
    def database(self) -> str:
        return self._backing.database

    @property
    def admin_url(self) -> str:
        """As the server's own superuser, from this machine."""
        return self._backing.database_url(inside=False, driver="postgresql").get_secret_value()
