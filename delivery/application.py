"""`greenroom.toml`: what the application's own repository says about itself.

The field names are the keys of the file. Durations are seconds there, since a TOML file has no durations, and are offered as
`timedelta` to the code.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import timedelta
from typing import Literal

from delivery.check_settings import CheckSettings
from delivery.errors import InvalidSettings
from delivery.gate import CheckWaiver
from delivery.licences import Licences
from delivery.presets import Preset, Surroundings, all_checks, left_out, preset_problems
from delivery.strict import STRICT as STRICT  # noqa: PLC0414  most of delivery takes it from here

# What an environment's health overview always has a row for, known or not.
GAUGES = ("database_pool", "redis", "queue_depth")


@dataclass(frozen=True)
class Exposition:
    """What each replica of a service tells of itself at `path`, in Prometheus' text format: gauges, and in `requests` its counter of
    answers, whose label `status` holds the HTTP code. `gauges` says what they call that which the health overview shows: GAUGES, and
    whatever else the team wants to see there.
    """

    __pydantic_config__ = STRICT

    path: str = "/metrics"
    requests: str | None = None
    status: str = "status"
    gauges: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True)
class Service:
    """One process type of the application. All services of a release move as one unit."""

    __pydantic_config__ = STRICT

    name: str
    kind: Literal["web", "worker"]
    context: str
    dockerfile: str
    replicas: int = 1
    port: int | None = None
    routes: tuple[str, ...] = ()
    health: str | None = None
    ready: tuple[str, ...] = ()
    drain_seconds: int = 30
    paths: tuple[str, ...] = ()
    variables: tuple[str, ...] = ()
    settings: Mapping[str, str] = field(default_factory=dict)
    metrics: Exposition | None = None

    @property
    def drain(self) -> timedelta:
        return timedelta(seconds=self.drain_seconds)

    @property
    def takes_requests(self) -> bool:
        return self.kind == "web"


@dataclass(frozen=True)
class MigrationSettings:
    """Where the application's own Alembic is: in the image of `service`, run by that image's `python`, which finds the database by the
    variable `database`. `upgrade` is for end-to-end tests, whose database nobody else uses; a rollout asks Alembic itself, forward and
    back. `current` and `downgrade` do nothing: they stay so that what was published with them can be read.
    """

    __pydantic_config__ = STRICT

    service: str
    config: str = "alembic.ini"
    python: tuple[str, ...] = ("python",)
    database: str = "DATABASE_URL"
    upgrade: tuple[str, ...] = ("alembic", "upgrade", "head")
    current: tuple[str, ...] = ("alembic", "current")
    downgrade: tuple[str, ...] = ("alembic", "downgrade", "{revision}")
    timeout_seconds: int = 600


@dataclass(frozen=True)
class Toolchain:
    """Tools that checks need, prepared once per content of the files in `reads` and kept in a cache folder `{dir}`."""

    __pydantic_config__ = STRICT

    reads: tuple[str, ...]
    prepare: tuple[tuple[str, ...], ...]
    path: tuple[str, ...] = ()
    links: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True)
class Backing:
    """A service that end-to-end tests run against and that is thrown away afterwards."""

    __pydantic_config__ = STRICT

    name: str
    image: str
    port: int
    ready: tuple[str, ...]
    settings: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True)
class EndToEnd:
    __pydantic_config__ = STRICT

    command: tuple[str, ...]
    service: str
    toolchain: str | None = None
    directory: str = "."
    timeout_seconds: int = 600
    settings: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True)
class Smoke:
    """One request that a running release must answer; `contains` must stand in the body. What may write is sent on copies of a database
    only; `{unique}` in its path and in the texts of its JSON `body` is another word each time that it is sent.
    """

    __pydantic_config__ = STRICT

    service: str
    path: str
    status: int = 200
    contains: str | None = None
    method: Literal["GET", "POST", "PUT", "PATCH", "DELETE"] = "GET"
    body: Mapping[str, object] | tuple[object, ...] | None = None

    @property
    def name(self) -> str:
        return f"{self.method} {self.path}"

    @property
    def writes(self) -> bool:
        return self.method != "GET"

    def problems(self) -> tuple[str, ...]:
        if self.body is not None and not self.writes:
            return (f"smoke.body: got a body for {self.name}, expected one for POST, PUT, PATCH or DELETE only",)
        return ()


@dataclass(frozen=True)
class LoadTest:
    """A short open-loop load on staging: `rate` requests per second for `seconds`, spread over `paths`."""

    __pydantic_config__ = STRICT

    rate: float
    seconds: float
    paths: tuple[str, ...]
    max_failed_share: float = 0.01
    max_p95_ms: float = 3000.0


@dataclass(frozen=True)
class Hook:
    """A command of the application after an event; it tells, it never decides."""

    __pydantic_config__ = STRICT

    name: str
    after: tuple[Literal["promote", "rollback"], ...]
    service: str
    command: tuple[str, ...]
    timeout_seconds: int = 60


@dataclass(frozen=True)
class Named:
    __pydantic_config__ = STRICT

    name: str


@dataclass(frozen=True)
class Application:
    """The whole `greenroom.toml`. Names that point at nothing are refused here, all at once."""

    __pydantic_config__ = STRICT

    application: Named
    service: tuple[Service, ...]
    bases: Mapping[str, str] = field(default_factory=dict)
    migrations: MigrationSettings | None = None
    toolchains: Mapping[str, Toolchain] = field(default_factory=dict)
    presets: Mapping[str, Preset] = field(default_factory=dict)
    check: tuple[CheckSettings, ...] = ()
    waiver: tuple[CheckWaiver, ...] = ()
    licences: Licences | None = None
    backing: tuple[Backing, ...] = ()
    e2e: EndToEnd | None = None
    smoke: tuple[Smoke, ...] = ()
    load: LoadTest | None = None
    hook: tuple[Hook, ...] = ()

    @property
    def name(self) -> str:
        return self.application.name

    @property
    def checks(self) -> tuple[CheckSettings, ...]:
        """Every check that a commit must pass: the presets', as far as they are not switched off or written anew, and the file's own."""
        return all_checks(self.presets, self.check, self._surroundings)

    @property
    def left_out(self) -> Mapping[str, str]:
        """Checks of its presets that do not look, with the reason; a check of its own by that name looks in their place."""
        named = {check.name for check in self.check}
        return {name: why for name, why in left_out(self.presets, self._surroundings).items() if name not in named}

    @property
    def _surroundings(self) -> Surroundings:
        dockerfiles = tuple(dict.fromkeys(service.dockerfile for service in self.service))
        allowed = self.licences.allow if self.licences else ()
        return Surroundings(toolchains=tuple(self.toolchains), dockerfiles=dockerfiles, licences=allowed)

    def problems(self) -> tuple[str, ...]:
        """Everything that contradicts itself, as sentences `key: got …, expected …`; empty when the file is sound."""
        names = [service.name for service in self.service]
        known = ", ".join(names)
        found = [f"service.name: got {name!r} twice, expected each name once" for name in _repeated(names)]
        found += [f"check.name: got {name!r} twice, expected each name once" for name in _repeated([c.name for c in self.check])]
        found += [problem for check in self.checks for problem in check.problems()]
        found += [*preset_problems(self.presets, self._surroundings), *self._waiver_problems()]
        found += self.licences.problems() if self.licences else ()
        found += [problem for smoke in self.smoke for problem in smoke.problems()]
        for service in self.service:
            here = f"service {service.name}"
            if service.takes_requests and not (service.port and service.routes and service.health):
                found.append(f"{here}: got a web service without port, routes or health, expected all three")
            if not service.takes_requests and (service.port or service.routes):
                found.append(f"{here}: got port or routes on a worker, expected neither")
            if not service.takes_requests and not service.ready:
                found.append(f"{here}.ready: got no command, expected one that exits 0 when the worker takes jobs")
            if not service.takes_requests and service.metrics:
                found.append(f"{here}.metrics: got metrics of a worker, expected them of web services only")
            if service.replicas < 1:
                found.append(f"{here}.replicas: got {service.replicas}, expected 1 or more")
        if self.migrations is not None and not self.migrations.python:
            found.append("migrations.python: got no command, expected the image's Python that has Alembic")
        pointers = [("migrations.service", self.migrations.service)] if self.migrations else []
        pointers += [("e2e.service", self.e2e.service)] if self.e2e else []
        pointers += [("smoke.service", smoke.service) for smoke in self.smoke]
        pointers += [("hook.service", hook.service) for hook in self.hook]
        found += [f"{key}: got {name!r}, expected one of: {known}" for key, name in pointers if name not in names]
        toolchains = ", ".join(self.toolchains) or "none declared"
        users = [(f"check {check.name}.toolchain", check.toolchain) for check in self.check]
        users += [("e2e.toolchain", self.e2e.toolchain)] if self.e2e else []
        found += [
            f"{key}: got {name!r}, expected one of: {toolchains}" for key, name in users if name is not None and name not in self.toolchains
        ]
        return tuple(found)

    def _waiver_problems(self) -> list[str]:
        names = [check.name for check in self.checks]
        found = [problem for waiver in self.waiver for problem in waiver.problems()]
        unknown = [waiver.check for waiver in self.waiver if waiver.check not in names]
        return found + [f"waiver.check: got {name!r}, expected one of: {', '.join(names) or 'no check is there'}" for name in unknown]

    def require_sound(self, *, file: str) -> "Application":
        found = self.problems()
        if found:
            raise InvalidSettings("\n".join(f"{file} {line}" for line in found), next="correct the file and commit it.")
        return self


def _repeated(names: list[str]) -> list[str]:
    return sorted({name for name in names if names.count(name) > 1})
