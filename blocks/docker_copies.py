"""Copies of an environment's database beside it, and releases that run against one, where no user and no router can reach them.

Everything here carries labels of its own, not the environment's: what looks after replicas and traffic never sees it.
"""

import contextlib
import hashlib
import json
import re
import secrets
import threading
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import timedelta
from urllib.parse import parse_qs, unquote, urlsplit, urlunsplit

from pydantic import SecretStr

from blocks.docker_replicas import Replicas, Wanted, side_by_side
from blocks.engine import Engine
from blocks.engine_facts import Blueprint
from delivery.application import Service
from delivery.errors import DeliveryError, InvalidSettings
from delivery.ports import Address, RunResult, Token
from delivery.release import Release

PREFIX = "greenroom_clone_"
# What a run that died has left on the server goes once nobody can still be using it; an environment's own goes with its next rehearsal.
OLDEST_LEFT_BEHIND = timedelta(hours=6)
_LONGEST_TIDYING = timedelta(minutes=2)
_TAIL_LINES = 40
# Through a pipe, since nothing may be written to; bash, since a dump that breaks off must not count as one that ended.
_COPY = """\
set -euo pipefail
createdb --template=template0 "$COPY"
pg_dump --format=custom --compress=0 --no-comments --no-publications --no-subscriptions \
  | pg_restore --dbname="$COPY" --exit-on-error --no-comments --no-publications --no-subscriptions
psql --no-psqlrc --quiet --dbname="$COPY" --command='ANALYZE'
echo "copied $(psql --no-psqlrc --tuples-only --no-align --command='SELECT pg_database_size(current_database())') bytes"
"""
_COPY_NAME = re.compile(rf"{PREFIX}(?P<made>\d+)_[0-9a-f]+_(?P<environment>\w+)")
# Psql may have something else to say, for instance of a collation that is older than its server.
_ANSWER = "greenroom-answer: "
_LIST = r"SELECT datname FROM pg_database WHERE datname LIKE 'greenroom\_clone\_%'"


@dataclass(frozen=True)
class Copies:
    """`image` is one with the database's own programs, of its major version: pg_dump, pg_restore, createdb, dropdb, psql."""

    replicas: Replicas
    image: str

    @property
    def _engine(self) -> Engine:
        return self.replicas.engine

    def make(self, release: Release, *, variables: Mapping[str, str], timeout: timedelta, token: Token) -> str:
        """A copy of the database as it is now; its name. The login must be one that may make databases."""
        name = f"{PREFIX}{int(time.time())}_{secrets.token_hex(3)}_{self._suffix}"
        ran = self._run_program(release, ("bash", "-c", _COPY), variables=variables, copy=name, timeout=timeout, token=token)
        if not ran.succeeded:
            with contextlib.suppress(DeliveryError):
                self.drop(release, name, variables=variables, token=token)
            said = next((line for line in reversed(ran.tail) if line.strip()), "it said nothing")
            raise DeliveryError(
                f"{self.replicas.environment.capitalize()}'s database could not be copied: {said[:300]}",
                next="give its login CREATEDB, and the docker-target block a postgresql_image of the database's major version.",
            )
        return name

    def drop(self, release: Release, name: str, *, variables: Mapping[str, str], token: Token) -> None:
        """Idempotent; whoever is still connected is sent away."""
        if not name.startswith(PREFIX):
            raise DeliveryError(f"{name} is no copy and is not dropped.", next="nothing.")
        command = ("dropdb", "--if-exists", "--force", "--maintenance-db=postgres", name)
        ran = self._run_program(release, command, variables=variables, copy=name, timeout=_LONGEST_TIDYING, token=token)
        if not ran.succeeded:
            raise DeliveryError(
                f"The copy {name} could not be dropped: {' '.join(ran.tail[-1:])[:200]}", next="drop it by hand, or leave it to the next."
            )

    def sweep(self, release: Release, *, variables: Mapping[str, str], token: Token) -> None:
        """Removes what an earlier rehearsal could not."""
        self.clear()
        command = ("psql", "--no-psqlrc", "--tuples-only", "--no-align", f"--command={_LIST}")
        ran = self._run_program(release, command, variables=variables, copy="", timeout=_LONGEST_TIDYING, token=token)
        for name in left_behind(ran.tail if ran.succeeded else (), self._suffix, now=time.time()):
            with contextlib.suppress(DeliveryError):
                self.drop(release, name, variables=variables, token=token)

    def run(
        self,
        release: Release,
        service: str,
        command: Sequence[str],
        *,
        copy: str,
        variables: Mapping[str, str],
        timeout: timedelta,
        token: Token,
    ) -> RunResult:
        """A command of the release's image against the copy."""
        declared = release.service(service)
        blueprint = replace(
            self._blueprint(release, declared, copy, variables), name=self._name(release, f"run-{_short(command)}"), command=tuple(command)
        )
        return self._ran(blueprint, timeout, token)

    def launch(self, release: Release, *, copy: str, variables: Mapping[str, str], token: Token) -> Sequence[Address]:
        """One replica of each web service, well, against the copy; they find one another by name in a network of their own."""
        webs = [service for service in release.services if service.takes_requests]
        network = f"gr-{self.replicas.environment}-trial-{release.id}"
        self._engine.create_network(network, self._labels | {"network": network})
        gave_up = threading.Event()

        def bring_up(service: Service) -> Address:
            blueprint = replace(self._blueprint(release, service, copy, variables), name=self._name(release, service.name))
            self._remove(blueprint.name)
            container = self.replicas.make(blueprint, token)
            self._engine.connect(container, network, [service.name])
            self._engine.start(container)
            try:
                self.replicas.wait_until_well(Wanted(service, 0, blueprint), container, gave_up)
            except BaseException:
                gave_up.set()
                raise
            address = self._engine.address(container, self.replicas.network)
            return Address(service.name, f"{service.name} of {release.version.tag}", f"http://{address}:{service.port}")

        return side_by_side(bring_up, webs)

    def ask(self, release: Release, question: str, *, copy: str, variables: Mapping[str, str], timeout: timedelta, token: Token) -> str:
        """The one value that a query gives."""
        marked = f"SELECT '{_ANSWER}' || ({question})::text"
        command = ("psql", "--no-psqlrc", "--quiet", "--tuples-only", "--no-align", f"--dbname={copy}", f"--command={marked}")
        ran = self._run_program(release, command, variables=variables, copy=copy, timeout=timeout, token=token)
        answer = next((line for line in ran.tail if line.startswith(_ANSWER)), None)
        if not ran.succeeded or answer is None:
            said = next((line for line in reversed(ran.tail) if line.strip()), "it said nothing")
            raise DeliveryError(f"The copy {copy} did not answer as it should: {said[:300]}", next="look at the database's log.")
        return answer.removeprefix(_ANSWER)

    def files(
        self, release: Release, service: str, wanted: Callable[[str, str], bool], *, token: Token
    ) -> Iterator[tuple[str, bytes | None]]:
        """Of a container that is made for it and never started."""
        declared = release.service(service)
        blueprint = self.replicas.blueprint(release, declared, self._name(release, f"files-{service}"), self._labels, {})
        self._remove(blueprint.name)
        container = self.replicas.make(blueprint, token)
        try:
            home = self._engine.working_directory(container)
            yield from self._engine.files(container, lambda path: wanted(path, home))
        finally:
            self._engine.remove(container)

    def clear(self) -> None:
        """Every container and network that runs, or ran, against a copy."""
        side_by_side(lambda found: self._engine.remove(found.id), self._engine.containers(self._labels))
        for labels in self._engine.networks(self._labels):
            self._engine.remove_network(labels["network"], self._labels)

    # ---- how

    @property
    def _labels(self) -> dict[str, str]:
        return {"trial": self.replicas.environment}

    @property
    def _suffix(self) -> str:
        return re.sub(r"\W", "_", self.replicas.environment)

    def _name(self, release: Release, what: str) -> str:
        return f"gr-{self.replicas.environment}-trial-{release.id}-{what}"

    def _remove(self, name: str) -> None:
        found = self._engine.container(name)
        if found is not None and found.label("trial") == self.replicas.environment:
            self._engine.remove(found.id)

    def _blueprint(self, release: Release, service: Service, copy: str, variables: Mapping[str, str]) -> Blueprint:
        given = self.replicas.variables_of(release, service, variables)
        variable = database_of(release)
        if variable in given:
            given[variable] = SecretStr(_with_database(given[variable].get_secret_value(), copy))
        return self.replicas.blueprint(release, service, "", self._labels, given)

    def _run_program(
        self, release: Release, command: Sequence[str], *, variables: Mapping[str, str], copy: str, timeout: timedelta, token: Token
    ) -> RunResult:
        """One of the database's own programs; login and password reach it by its environment."""
        service, variable = release.service(release.migrations.service if release.migrations else ""), database_of(release)
        url = self.replicas.variables_of(release, service, variables).get(variable)
        if url is None:
            raise InvalidSettings(
                f"Service {service.name} has no variable {variable}, by which it would find its database.",
                next="correct `database` in [migrations] of greenroom.toml.",
            )
        blueprint = Blueprint(
            name=self._name(release, f"program-{_short(command)}"),
            image=self.image,
            labels=self._labels,
            environment={**login_of(url.get_secret_value()), "COPY": copy},
            network=self.replicas.network,
            memory_mb=max(256, self.replicas.memory_limit_mb),
            cpus=self.replicas.cpu_limit,
            stop_seconds=5,
            command=tuple(command),
        )
        return self._ran(blueprint, timeout, token)

    def _ran(self, blueprint: Blueprint, timeout: timedelta, token: Token) -> RunResult:
        self._remove(blueprint.name)
        container = self.replicas.make(blueprint, token)
        try:
            self._engine.start(container)
            code = self._engine.wait(container, seconds=timeout.total_seconds())
            if code is None:
                self._engine.kill(container)
            tail = [line for line in self._engine.log(container, tail=_TAIL_LINES).splitlines() if line.strip()]
        finally:
            self._engine.remove(container)
        if code is None:
            return RunResult(124, (*tail, f"killed: it took longer than {timeout.total_seconds():g} s"))
        return RunResult(code, tuple(tail))


def left_behind(databases: Sequence[str], environment: str, *, now: float) -> tuple[str, ...]:
    """The copies that nobody can still be using: this environment's own, and whosever are old. `now` in seconds since 1970."""
    copies = [found for name in databases if (found := _COPY_NAME.fullmatch(name.strip()))]
    oldest = now - OLDEST_LEFT_BEHIND.total_seconds()
    return tuple(one[0] for one in copies if one["environment"] == environment or int(one["made"]) < oldest)


def database_of(release: Release) -> str:
    """The variable by which the release finds its database."""
    return release.migrations.database if release.migrations else ""


def _short(command: Sequence[str]) -> str:
    return hashlib.sha256(json.dumps([*command]).encode()).hexdigest()[:10]


def _with_database(url: str, name: str) -> str:
    """The same address with another database."""
    return urlunsplit(urlsplit(url)._replace(path=f"/{name}"))


def login_of(url: str) -> dict[str, str]:
    """As libpq's programs read it, from an address in SQLAlchemy's spelling."""
    parts = urlsplit(url)
    asked = parse_qs(parts.query)
    mode = (asked.get("sslmode") or asked.get("ssl") or [""])[0]
    given = {
        "PGHOST": parts.hostname or (asked.get("host") or [""])[0],
        "PGPORT": str(parts.port or 5432),
        "PGUSER": unquote(parts.username or ""),
        "PGPASSWORD": unquote(parts.password or ""),
        "PGDATABASE": unquote(parts.path.lstrip("/")),
        "PGSSLMODE": mode if mode in ("disable", "allow", "prefer", "require", "verify-ca", "verify-full") else "",
        "PGCONNECT_TIMEOUT": "10",
    }
    return {name: value for name, value in given.items() if value}
