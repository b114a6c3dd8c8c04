"""End-to-end tests against the very images that were built, in a throw-away network that never survives them."""

import contextlib
import logging
import shlex
import time
import uuid
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import timedelta
from functools import partial
from pathlib import Path
from typing import Any

import docker
import httpx
import requests
from docker.errors import APIError, DockerException, ImageNotFound, NotFound
from docker.models.containers import Container

from delivery.application import Application, EndToEnd, MigrationSettings, Service
from delivery.check import CheckResult
from delivery.errors import DeliveryError, TransientError
from delivery.source import Source
from tasks.findings import findings
from tasks.kept import keep_text, reports_folder
from tasks.retry import QUICK, retried
from tasks.shell import Redaction, run_tool
from tasks.side_by_side import side_by_side
from tasks.source import use_of
from tasks.toolchains import inside, prepare_toolchains, toolchain_environment

log = logging.getLogger("greenroom.endtoend")

LABEL = "greenroom.e2e"
BORN = "greenroom.e2e.born"
LEFT_OVER_AFTER = timedelta(hours=1)
READY_WITHIN = timedelta(seconds=120)
PAUSE_SECONDS = 0.25
REPLICA_MEMORY = "512m"
# Of Docker's 1024: beside containers that serve users, the throw-away ones wait.
LOW_PRIORITY = 128
MOST_LOG_LINES = 5_000


@retried(QUICK, name="end to end", run_name="end to end")
def end_to_end(
    images: Mapping[str, str],
    source: Source,
    application: Application,
    *,
    work_dir: Path,
    base_images: Mapping[str, str] | None = None,
    keep_in: Path | None = None,
) -> CheckResult | None:
    """Runs the application's end-to-end tests against `images` and returns the answer; None when it has no such tests. Their JUnit file,
    where they write one to JUNIT_FILE, is kept in `keep_in` whether they pass or not.

    Backing services, one replica of each service and the migrated database live in a network of their own and are removed afterwards,
    whatever happens; what a killed run of more than an hour ago left is removed first. Raises `DeliveryError` naming the failing specs.
    """
    tests = application.e2e
    if tests is None:
        return None
    with open_engine() as engine, use_of(Path(source.path)):
        sweep(engine)
        with ThrowAway.opened(engine, source, work_dir / "logs" / str(source.sha)) as stage:
            address = _raise_stage(stage, application, tests, images, base_images or {})
            kept = keep_in or reports_folder(work_dir, str(source.sha))
            return _run_tests(tests, source, application, work_dir=work_dir, address=address, stage=stage, keep_in=kept)


def sweep(engine: docker.DockerClient) -> None:
    """Removes what runs that were killed left behind more than an hour ago."""
    limit = time.time() - LEFT_OVER_AFTER.total_seconds()
    for container in engine.containers.list(all=True, filters={"label": BORN}, ignore_removed=True):
        if float(container.labels.get(BORN, "inf")) < limit:
            _remove(container)
    for network in engine.networks.list(filters={"label": BORN}):
        if float((network.attrs.get("Labels") or {}).get(BORN, "inf")) < limit:
            with contextlib.suppress(APIError):
                network.remove()


@dataclass
class ThrowAway:
    """A network and the containers in it; all go when it closes, and their logs stay in `logs`."""

    engine: docker.DockerClient
    network: Any
    name: str
    labels: Mapping[str, str]
    logs: Path
    containers: dict[str, Container] = field(default_factory=dict)

    @classmethod
    @contextlib.contextmanager
    def opened(cls, engine: docker.DockerClient, source: Source, logs: Path) -> "Iterator[ThrowAway]":
        name = f"greenroom-e2e-{source.sha.short}-{uuid.uuid4().hex[:6]}"
        labels = {LABEL: str(source.sha), BORN: str(int(time.time()))}
        network = engine.networks.create(name, driver="bridge", labels=labels, check_duplicate=True)
        stage = cls(engine, network, name, labels, logs)
        try:
            yield stage
        finally:
            # Together, since the engine needs some tenths of a second for each.
            side_by_side([partial(_remove, container) for container in stage.containers.values()], at_once=len(stage.containers) or 1)
            with contextlib.suppress(APIError):
                network.remove()

    def start(self, name: str, image: str, **options: Any) -> Container:
        """A container that answers to `name` in the network."""
        try:
            container = self.engine.containers.create(
                image,
                name=f"{self.name}-{name}",
                labels=dict(self.labels),
                # Named here and not in the call that connects: only so does the alias exist from the first moment.
                networking_config={self.name: self.engine.api.create_endpoint_config(aliases=[name])},
                network=self.name,
                mem_limit=REPLICA_MEMORY,
                cpu_shares=LOW_PRIORITY,
                **options,
            )
        except ImageNotFound:
            raise DeliveryError(
                f"The image {image} of {name} is not on this machine.", next="build it, or map it in base_images."
            ) from None
        self.containers[name] = container
        container.start()
        return container

    def address_of(self, name: str) -> str:
        container = self.containers[name]
        container.reload()
        return str(container.attrs["NetworkSettings"]["Networks"][self.name]["IPAddress"])

    def save_logs(self) -> None:
        """Each container's last lines as a file of its own."""
        self.logs.mkdir(parents=True, exist_ok=True)
        redact = Redaction(())
        for name, container in self.containers.items():
            with contextlib.suppress(APIError):
                text = container.logs(tail=MOST_LOG_LINES, timestamps=True).decode("utf-8", errors="replace")
                lines = [redact(line) for line in text.splitlines()]
                (self.logs / f"e2e-{name}.log").write_text("\n".join(lines) + "\n", encoding="utf-8")

    def last_words(self, name: str) -> str:
        with contextlib.suppress(APIError):
            lines = self.containers[name].logs(tail=40).decode("utf-8", errors="replace").splitlines()
            # The indented lines of a traceback say less than those at its end.
            telling = [line for line in lines if line.strip() and not line.startswith((" ", "\t"))]
            return "".join(f"\n  {Redaction(())(line)[:300]}" for line in telling[-4:])
        return ""


def _raise_stage(
    stage: ThrowAway, application: Application, tests: EndToEnd, images: Mapping[str, str], base_images: Mapping[str, str]
) -> str:
    """Backing services, migrations, then one replica of every service; returns the address that the tests are run against."""
    for backing in application.backing:
        stage.start(backing.name, base_images.get(backing.image, backing.image), environment=dict(backing.settings))
    for backing in application.backing:
        _await(stage, backing.name, lambda backing=backing: _says_yes(stage, backing.name, backing.ready))
    if application.migrations is not None:
        _migrate(stage, application.migrations, application, tests, images)
    for service in application.service:
        stage.start(service.name, images[service.name], **as_replica(service, tests.settings))
    for service in application.service:
        _await(stage, service.name, lambda service=service: _is_ready(stage, service))
    service = next(service for service in application.service if service.name == tests.service)
    return f"http://{stage.address_of(service.name)}:{service.port}"


def as_replica(service: Service, settings: Mapping[str, str]) -> dict[str, Any]:
    """As a target runs it: its own variables only, nothing to write to but /tmp, no privileges."""
    variables = {name: value for name, value in settings.items() if name in service.variables}
    return {
        "environment": {**service.settings, **variables},
        "read_only": True,
        "tmpfs": {"/tmp": "rw,nosuid,nodev,size=64m"},  # noqa: S108  inside the container
        "cap_drop": ["ALL"],
        "security_opt": ["no-new-privileges:true"],
        "pids_limit": 512,
    }


def _migrate(stage: ThrowAway, migrations: MigrationSettings, application: Application, tests: EndToEnd, images: Mapping[str, str]) -> None:
    service = next(service for service in application.service if service.name == migrations.service)
    container = stage.start("migrate", images[service.name], command=list(migrations.upgrade), **as_replica(service, tests.settings))
    try:
        code = container.wait(timeout=migrations.timeout_seconds)["StatusCode"]
    except requests.RequestException:
        code = None
    if code != 0:
        stage.save_logs()
        how = "did not end in time" if code is None else f"ended with {code}"
        raise DeliveryError(
            f"e2e failed: `{shlex.join(migrations.upgrade)}` {how}:{stage.last_words('migrate')}",
            next=f"see {stage.logs / 'e2e-migrate.log'}.",
        )


def _await(stage: ThrowAway, name: str, ready: Any) -> None:
    deadline = time.monotonic() + READY_WITHIN.total_seconds()
    container = stage.containers[name]
    while not ready():
        container.reload()
        gone = container.status in ("exited", "dead")
        if gone or time.monotonic() > deadline:
            stage.save_logs()
            how = "ended" if gone else f"was not ready after {READY_WITHIN.total_seconds():.0f} s"
            raise DeliveryError(f"e2e failed: {name} {how}:{stage.last_words(name)}", next=f"see {stage.logs / f'e2e-{name}.log'}.")
        time.sleep(PAUSE_SECONDS)


def _is_ready(stage: ThrowAway, service: Service) -> bool:
    if not service.takes_requests:
        return _says_yes(stage, service.name, service.ready)
    try:
        # The network of this machine; no proxy knows the way.
        url = f"http://{stage.address_of(service.name)}:{service.port}{service.health}"
        return httpx.get(url, timeout=3.0, trust_env=False).status_code == httpx.codes.OK
    except httpx.HTTPError:
        return False


def _says_yes(stage: ThrowAway, name: str, command: Sequence[str]) -> bool:
    try:
        return bool(stage.containers[name].exec_run(list(command)).exit_code == 0)
    except APIError:
        return False  # it has not started yet, or has ended: the caller looks


def _run_tests(
    tests: EndToEnd, source: Source, application: Application, *, work_dir: Path, address: str, stage: ThrowAway, keep_in: Path
) -> CheckResult:
    toolchains = prepare_toolchains(source, application, work_dir=work_dir, names=[tests.toolchain])
    log_file = stage.logs / "e2e.log"
    log_file.unlink(missing_ok=True)
    junit = log_file.with_suffix(".junit.xml").absolute()
    junit.unlink(missing_ok=True)
    told = {"BASE_URL": address, "JUNIT_FILE": str(junit), "PLAYWRIGHT_JUNIT_OUTPUT_FILE": str(junit)}
    tool = run_tool(
        tests.command,
        directory=inside(source, tests.directory),
        environment=toolchain_environment(toolchains.get(tests.toolchain or ""), work_dir=work_dir, extra=told),
        timeout=timedelta(seconds=tests.timeout_seconds),
        log_file=log_file,
        label="e2e",
    )
    kept = keep_text(junit, keep_in, name="e2e.junit.xml", redact=Redaction(()))
    result = CheckResult("e2e", passed=tool.succeeded, seconds=round(tool.seconds, 2), tail=tool.tail[-40:], log=str(log_file), kept=kept)
    log.info("%s", result.sentence())
    if not result.passed:
        stage.save_logs()
        lines = log_file.read_text(encoding="utf-8", errors="replace").splitlines()
        found = findings(lines, folder=source.path, directory=tests.directory)
        raise DeliveryError(
            "e2e failed:" + "".join(f"\n  {line}" for line in found),
            next=f"see {log_file}, and the services' logs beside it; run `{shlex.join(tests.command)}` in {tests.directory}",
        )
    return result


def _remove(container: Container) -> None:
    with contextlib.suppress(NotFound, APIError):
        container.remove(force=True, v=True)


@contextlib.contextmanager
def open_engine() -> Iterator[docker.DockerClient]:
    """The Docker engine; what it says in foreign words is translated here."""
    engine = None
    try:
        engine = docker.from_env(timeout=60)
        yield engine
    except APIError as error:
        said = Redaction(())(str(error.explanation or error))[:300]
        kind = TransientError if error.is_server_error() else DeliveryError
        raise kind(f"The Docker engine refused: {said}", next="look at the engine's log.") from None
    except requests.RequestException as error:
        raise TransientError(f"The Docker engine did not answer ({type(error).__name__}).", next="look at the engine.") from None
    except DockerException as error:
        raise DeliveryError(f"No Docker engine answers ({type(error).__name__}).", next="start it; `make setup` does.") from None
    finally:
        if engine is not None:
            engine.close()
