"""A whole local installation in one folder: what a team has around Greenroom, on loopback, for the demo and the tests."""

import json
import os
import secrets
import shutil
import subprocess
import sys
from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any

from docker.models.containers import Container
from plumbum import local
from pydantic import SecretStr

from blocks.installation import write_settings
from blocks.signing import make_key_pair
from delivery.errors import DeliveryError
from delivery.image import ImageRef
from deployments.api import PrefectApi
from deployments.backing import POSTGRES, Backing, BackingContainers, PrefectDatabase, StageContainers, kept_secret
from deployments.base_images import ensure_base_images
from deployments.demo.advisories import write_advisories
from deployments.machine import engine_client
from deployments.processes import free_ports, port_is_free
from deployments.stage import PrefectServer, PrefectWorker, Registry, Traefik
from deployments.steward import StewardProcess

HOME = Path(__file__).resolve().parents[2]
ENVIRONMENTS = ("staging", "production")
POOL = "greenroom"
# Taken when they are free, so that a person finds the same addresses each time.
USUAL_PORTS = {"registry": 5000, "staging": 8081, "production": 8080, "admin": 8099, "second-admin": 8098, "prefect": 4200}


@dataclass
class LocalInstallation:
    """`folder` holds everything it keeps; `cache` (toolchains, Git mirrors, check results, image layers) may
    be shared between installations.

    Nothing is told to the running engine but containers whose labels name one of `ENVIRONMENTS`.
    """

    folder: Path
    repository: Path
    environments: Path
    cache: Path
    durable: bool = True
    ports: Mapping[str, int] = field(default_factory=dict)

    def __post_init__(self) -> None:
        self.ports = self.ports or _kept_ports(self.folder / "ports.json")
        self.registry = Registry(self.folder, self.ports["registry"], storage=self.cache / "registry")
        self.traefik = Traefik(
            self.folder,
            {name: self.ports[name] for name in ENVIRONMENTS},
            self.ports["admin"],
            second_admin_port=self.ports["second-admin"],
        )
        self._prefect_database = PrefectDatabase(self.folder, durable=self.durable)
        self.prefect = PrefectServer(self.folder, self.ports["prefect"], database=self._prefect_database.start)
        self.api = PrefectApi(self.prefect.api_url)
        self._backing: dict[str, Backing] = {}

    @cached_property
    def settings(self) -> dict[str, str]:
        """The environment variables of every process that belongs to this installation."""
        return {
            **self.prefect.client_settings(),
            "PREFECT_LOGGING_EXTRA_LOGGERS": "greenroom",
            "GREENROOM_WORK_DIR": str(self.cache),
            "GREENROOM_DATABASE_URL": self.database_url.get_secret_value(),
            "GREENROOM_BLOCKS_FILE": str(self.folder / "blocks.toml"),
            "GREENROOM_REPOSITORY": str(self.repository),
            "GREENROOM_ENVIRONMENTS_DIR": str(self.environments),
            "GREENROOM_KEYS_DIR": str(self.folder / "keys"),
            "GREENROOM_BASE_IMAGES": json.dumps(ensure_base_images()),
            "GREENROOM_UI_URL": self.prefect.url,
            "GREENROOM_ADVISORIES": str(self.folder / "advisories.json"),
        }

    @property
    def database_url(self) -> SecretStr:
        """The journal's."""
        return SecretStr(f"sqlite:///{self.folder / 'journal.db'}")

    @property
    def rollouts(self) -> Path:
        """Where each rollout has a folder with its report."""
        return self.cache / "rollouts"

    @cached_property
    def worker(self) -> PrefectWorker:
        return PrefectWorker(self.folder, self.prefect, POOL, directory=HOME, settings=self.settings)

    @cached_property
    def steward(self) -> StewardProcess:
        return StewardProcess(self.folder, settings=self.settings, directory=HOME)

    @property
    def _signing_key(self) -> Path:
        return self.folder / "signing.key"

    def backing(self, environment: str) -> Backing:
        """How to reach an environment's database and Redis, once it is started."""
        return self._backing[environment]

    def public_url(self, environment: str) -> str:
        return self.traefik.url(environment)

    def start(self) -> None:
        """Everything up and registered; what runs already is left as it is. The slow ones start side by side."""
        self.folder.mkdir(parents=True, exist_ok=True)
        with ThreadPoolExecutor(3) as pool:
            server = pool.submit(self.prefect.start)
            containers = pool.submit(self._start_backing)
            pool.submit(self.registry.start).result()
            pool.submit(self.traefik.start).result()
            containers.result()
            server.result()
        make_key_pair(self._signing_key, self.folder / "keys" / "release.pub")
        self._write_blocks()
        write_advisories(self.folder / "advisories.json")
        write_settings(self.folder, self.settings)
        self.run("-m", "deployments.register")
        self.steward.start()
        self.worker.start()

    def run(self, *arguments: str) -> str:
        """Runs Greenroom's Python with this installation's settings and returns what it printed; raises `DeliveryError` when it fails."""
        done = subprocess.run(
            [sys.executable, *arguments],
            cwd=HOME,
            env={**os.environ, **self.settings},
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            check=False,
        )
        if done.returncode:
            raise DeliveryError(
                f"`python {' '.join(arguments)}` ended with {done.returncode}:\n{done.stdout[-3000:]}", next="mend what it names."
            )
        return done.stdout

    def run_in_live(self, environment: str, service: str, command: Sequence[str]) -> str:
        """Runs a command in one of the service's running containers and returns what it printed."""
        running = [one for one in self.containers(environment, service) if one.status == "running"]
        if not running:
            raise DeliveryError(f"{environment} runs no {service}.", next="look at `greenroom status`.")
        code, output = running[0].exec_run(list(command))
        text = (output if isinstance(output, bytes) else b"".join(output)).decode(errors="replace")
        if code:
            raise DeliveryError(f"{' '.join(command)} ended with {code}: {text[-500:]}", next="mend what it names.")
        return text

    def containers(self, environment: str, service: str | None = None) -> list[Container]:
        """The application's containers of an environment, those that have ended included."""
        labels = [f"greenroom.environment={environment}"] + ([f"greenroom.service={service}"] if service else [])
        found: list[Container] = engine_client().containers.list(all=True, filters={"label": labels}, ignore_removed=True)
        return found

    def images_of(self, environment: str) -> dict[str, set[ImageRef]]:
        """By release id, the images that the environment's containers were made from, as the engine tells it."""
        found: dict[str, set[ImageRef]] = {}
        for container in self.containers(environment):
            release = container.labels.get("greenroom.release")
            if release:
                found.setdefault(release, set()).add(ImageRef.parse(container.attrs["Config"]["Image"]))
        return found

    def stop(self, *, remove: bool) -> None:
        """Ends what `start` started, the application's containers included; with `remove` all data goes as well."""
        self.steward.stop()  # first, so that it takes nothing over that is ended here on purpose
        self.worker.stop()
        self.prefect.stop()
        if remove:
            self._remove_application()
        started: list[StageContainers] = [self._prefect_database, *map(self._backing_containers, ENVIRONMENTS)]
        for containers in started:
            containers.remove(volumes=True) if remove else containers.stop()
        self.traefik.stop()
        self.registry.stop()
        if remove:
            shutil.rmtree(self.folder, ignore_errors=True)

    def _start_backing(self) -> None:
        for environment in ENVIRONMENTS:
            self._backing[environment] = self._backing_containers(environment).start()

    def _backing_containers(self, environment: str) -> BackingContainers:
        return BackingContainers(environment, self.folder, durable=self.durable)

    def _remove_application(self) -> None:
        engine = engine_client()
        for environment in ENVIRONMENTS:
            for container in self.containers(environment):
                container.remove(force=True)
            for network in engine.networks.list(filters={"label": f"greenroom.environment={environment}"}):
                network.remove()
        # A run that was ended in its end-to-end tests could not take away what it had started.
        for commit in self._commits():
            left: dict[str, str | list[str] | bool] = {"label": f"greenroom.e2e={commit}"}
            for container in engine.containers.list(all=True, filters=left, ignore_removed=True):
                container.remove(force=True)
            for network in engine.networks.list(filters=left):
                network.remove()

    def _commits(self) -> list[str]:
        if not (self.repository / ".git").exists():
            return []
        told: str = local["git"]["-C", str(self.repository)]("rev-list", "--all", retcode=None)
        return told.split()

    def _write_blocks(self) -> None:
        file = self.folder / "blocks.toml"
        file.touch(mode=0o600)
        file.write_text(_toml(self._blocks()), encoding="utf-8")

    def _blocks(self) -> dict[str, dict[str, Any]]:
        """Section name to values, as docs/operating.md describes the blocks file."""
        sections: dict[str, dict[str, Any]] = {
            "oci-registry.default": {"host": self.registry.address, "namespace": "dealbrain", "insecure": True},
            "signing-key.default": {"file": str(self._signing_key)},
        }
        for environment in ENVIRONMENTS:
            backing = self._backing[environment]
            key = kept_secret(self.folder / f"{environment}.secret-key", secrets.token_urlsafe)
            sections[f"environment-secrets.{environment}"] = {
                "values": {
                    "DATABASE_URL": backing.database_url(inside=True).get_secret_value(),
                    "REDIS_URL": backing.redis_url(inside=True).get_secret_value(),
                    "SECRET_KEY": key.get_secret_value(),
                }
            }
            more = {"more_admin_urls": list(self.traefik.admin_urls[1:])}
            sections[f"docker-target.{environment}"] = {
                "environment": environment,
                "network": backing.network,
                "public_url": self.public_url(environment),
                "secrets": environment,
                "postgresql_image": ensure_base_images((POSTGRES,))[POSTGRES],
                "traffic": {
                    "environment": environment,
                    "dynamic_dir": str(self.traefik.dynamic_directory),
                    "work_dir": str(self.traefik.new_files_directory),
                    "admin_url": self.traefik.admin_url,
                    "entry_point": environment,
                    **more,
                },
            }
            sections[f"traefik-metrics.{environment}"] = {"environment": environment, "admin_url": self.traefik.admin_url, **more}
        return sections


def _toml(sections: Mapping[str, Mapping[str, Any]]) -> str:
    """Sections of strings, booleans, lists and one level of tables. JSON's strings, booleans and lists of strings are TOML's."""

    def value(given: Any) -> str:
        if isinstance(given, Mapping):
            return "{ " + ", ".join(f"{key} = {value(inner)}" for key, inner in given.items()) + " }"
        return json.dumps(given)

    return "\n".join(
        f"[{section}]\n" + "".join(f"{key} = {value(given)}\n" for key, given in values.items()) for section, values in sections.items()
    )


def _kept_ports(file: Path) -> dict[str, int]:
    """The ports of this installation: those it had before, else the usual ones, else free ones."""
    kept = {name: int(port) for name, port in json.loads(file.read_text()).items()} if file.exists() else {}
    if kept.keys() >= USUAL_PORTS.keys():
        return kept
    spare = free_ports(USUAL_PORTS)
    ports = {name: port if port_is_free(port) else spare[name] for name, port in USUAL_PORTS.items()} | kept
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_text(json.dumps(ports))
    return ports
