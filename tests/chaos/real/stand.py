"""A stand for chaos: the benches' stand (engine, Traefik, registry, network), and two PostgreSQL servers, one for the journal and one for
the application's orders. Its registry is asked through a proxy that can answer wrongly.
"""

import contextlib
import secrets
import shutil
import threading
from contextlib import ExitStack
from pathlib import Path

import docker.errors
import psycopg
from docker.models.containers import Container

from bench.stand import LITTLE, Role, Stand
from blocks.journal import SqlJournal
from delivery.image import ImageRef
from deployments.backing import POSTGRES
from deployments.base_images import ensure_base_images
from deployments.processes import free_ports, wait_until
from tests.blocks.fault_proxy import FaultProxy, fault_proxy
from tests.chaos.real.place import VERSIONS, Place

HERE = Path(__file__).parent / "little"
PYTHON = "python:3.11-slim-bookworm"
# One after another: an image that one stand forgets may be what another one is just building on.
BUILDING = threading.Lock()
ROLES: tuple[Role, ...] = ("web", "worker")


class Server:
    """A PostgreSQL server in a container of its own, throw-away, on loopback and in the stand's network."""

    def __init__(self, stand: Stand, name: str) -> None:
        self._password = secrets.token_hex(12)
        # Chosen once: a port of the engine's choice changes when the server is killed and started again.
        self._port = free_ports([name])[name]
        self.name = f"{stand.name}-{name}"
        self.container: Container = stand.engine.containers.run(
            ensure_base_images((POSTGRES,))[POSTGRES],
            name=self.name,
            environment={"POSTGRES_USER": name, "POSTGRES_PASSWORD": self._password, "POSTGRES_FSYNC": "off"},
            ports={"5432/tcp": ("127.0.0.1", self._port)},
            network=stand.name,
            labels={"greenroom.chaos": stand.name},
            detach=True,
        )
        self._user = name
        wait_until(self.accepts, what="PostgreSQL", seconds=60, explain=lambda: self.container.logs(tail=5).decode())

    def url(self, database: str, *, inside: bool = False) -> str:
        where = f"{self.name}:5432" if inside else f"127.0.0.1:{self._port}"
        return f"postgresql://{self._user}:{self._password}@{where}/{database}"

    def create(self, database: str) -> None:
        with psycopg.connect(self.url(self._user), autocommit=True) as connection:
            connection.execute(f"CREATE DATABASE {database}")

    def accepts(self) -> bool:
        with contextlib.suppress(psycopg.OperationalError), psycopg.connect(self.url(self._user), connect_timeout=2):
            return True
        return False


class ChaosStand(Stand):
    """`open` makes everything, `close` leaves nothing. Its environments come one after another, each with a journal of its own."""

    journals: Server
    orders: Server
    registry_proxy: FaultProxy

    def __init__(self, folder: Path) -> None:
        super().__init__(folder)
        self._open = ExitStack()
        self._pinned: dict[str, str] = {}

    def open(self) -> None:
        self.folder.mkdir(parents=True, exist_ok=True)
        super().open()
        self.registry_proxy = self._open.enter_context(fault_proxy(self.registry.address))
        self.journals, self.orders = Server(self, "journal"), Server(self, "orders")
        with psycopg.connect(self.orders.url("orders"), autocommit=True) as connection:
            # No unique key: an order that is kept twice must be seen.
            connection.execute("CREATE TABLE orders (number bigserial PRIMARY KEY, id text NOT NULL, version text NOT NULL)")
            connection.execute("CREATE INDEX ON orders (id)")
        context = self._context()
        self._pinned = {f"{version}/{role}": self._publish(context, version, role) for version in VERSIONS for role in ROLES}

    def close(self) -> None:
        """Ends and removes exactly what this stand made, as far as it came."""
        for environment in self._environments:
            self.clear(environment)
        for container in self.engine.containers.list(all=True, filters={"label": f"greenroom.chaos={self.name}"}, ignore_removed=True):
            container.remove(force=True, v=True)
        for network in self.engine.networks.list(names=[f"^{self.name}$"]):
            network.remove()
        self._open.close()
        self.traefik.stop()
        self.registry.stop()
        for reference in self._pinned.values():
            self.forget_image(reference)
        self.engine.close()
        shutil.rmtree(self.folder, ignore_errors=True)

    def forget_image(self, reference: str) -> None:
        with contextlib.suppress(docker.errors.ImageNotFound):
            self.engine.images.remove(reference, force=True)

    def place(self) -> Place:
        """A new environment with an empty journal."""
        environment = self.environment()
        database = environment.replace("-", "_")
        self.journals.create(database)
        url = self.journals.url(database)
        journal = SqlJournal(url)
        journal.migrate()
        journal.close()
        return Place(
            environment=environment,
            network=self.name,
            url=self.url,
            dynamic_dir=str(self.traefik.dynamic_directory),
            work_dir=str(self.traefik.new_files_directory),
            admin_url=self.traefik.admin_url,
            journal_url=url,
            orders_dsn=self.orders.url("orders", inside=True),
            images=self._pinned,
            folder=str(self.folder / environment),
            effects=str(self.folder / environment / "effects.jsonl"),
        )

    def _context(self) -> Path:
        """What the images are built from: the little application, the orders, and the driver that this machine has."""
        context = self.folder / "little"
        context.mkdir()
        for file in (LITTLE / "app.py", HERE / "orders.py", HERE / "Dockerfile"):
            shutil.copy(file, context / file.name)
        site = Path(psycopg.__file__).parents[1]
        ignored = shutil.ignore_patterns("__pycache__")
        for package in ("psycopg", "psycopg_binary", "psycopg_binary.libs"):
            shutil.copytree(site / package, context / "driver" / package, ignore=ignored)
        shutil.copy(site / "typing_extensions.py", context / "driver" / "typing_extensions.py")
        return context

    def _publish(self, context: Path, version: str, role: Role) -> str:
        """Built, pushed and forgotten here, so that the first rollout pulls it. The reference leads through the proxy."""
        name = f"{self.registry.address}/{self.name}-{role}"
        arguments = {"BASE": ensure_base_images([PYTHON])[PYTHON], "VERSION": version, "ROLE": role, "STAND": self.name}
        with BUILDING:
            self._build(context, f"{name}:{version}", arguments)
            self.engine.images.push(name, tag=version)
            pushed = self.engine.images.get(f"{name}:{version}").attrs["RepoDigests"]
            found = ImageRef.parse(next(text for text in pushed if text.startswith(name)))
            self.engine.images.remove(f"{name}:{version}")
            self.forget_image(str(found))
        return str(ImageRef(self.registry_proxy.address, found.repository, found.digest))

    def _build(self, context: Path, tag: str, arguments: dict[str, str]) -> None:
        """Tried again, since the engine's builder breaks when somebody else removes an image whose layers it is just about to reuse."""
        for left in (2, 1, 0):
            try:
                self.engine.images.build(path=str(context), tag=tag, buildargs=arguments, rm=True)
            except docker.errors.DockerException:
                if not left:
                    raise
            else:
                return
