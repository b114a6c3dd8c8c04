"""Traefik's file provider as the traffic layer of one environment: what it should do is written, what it does is read from its API.

Facts that this rests on (Traefik 3.7, measured): a file that is renamed into the watched directory is applied as a whole; the API
answers for the configuration that requests meet; a server that is new in a configuration counts as up until its first health check,
and every change of the configuration forgets which ones were down. Hence only servers that run may be written at all.
"""

import contextlib
import hashlib
import json
import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

from pydantic import BaseModel, ConfigDict, Field, TypeAdapter, ValidationError, field_validator

from blocks.traefik_api import AdminUrls, Shown, without_logins
from blocks.traefik_files import DynamicFiles, is_routing, mend_all, sync_folder, write_beside
from blocks.traefik_state import ReleaseRoute, RoutingState, ServiceRoute, refuse_unserved, require_name
from delivery.errors import DeliveryError, InvalidSettings, StaleFence, TransientError
from delivery.ports import Token

__all__ = ["ReleaseRoute", "RoutingState", "ServiceRoute", "TraefikRoutes", "require_name", "traefik_service"]

_FIRST_POLL_SECONDS, _LONGEST_POLL_SECONDS = 0.01, 0.1
# How long instances may take to agree: a change reaches them some tenths of a second apart.
_AGREE_SECONDS = 2.0

_STATE = TypeAdapter(RoutingState)
Change = Callable[[RoutingState], RoutingState]


def traefik_service(environment: str, service: str, release: str) -> str:
    """The name of one release's service in Traefik, without `@file`; its metrics carry it as a label.

    Dots separate, since neither environments nor services may have one: names of different environments never meet.
    """
    return f"{environment}.{service}.{release}"


class TraefikRoutes(BaseModel):
    """One environment's routing through Traefik, as one process or several alike, watching `dynamic_dir` on this machine."""

    model_config = ConfigDict(extra="forbid")

    environment: str = Field(description="Name of the environment; its dynamic file is <environment>.yml.")
    dynamic_dir: Path = Field(description="The directory that Traefik's file provider watches.")
    admin_url: str = Field(description="Where Traefik's API answers, for instance http://127.0.0.1:8080.")
    entry_point: str = Field(description="The entry point at which users of this environment arrive.")
    work_dir: Path | None = Field(
        default=None, description="Where state and new files lie: the watched directory's file system. Default: beside it."
    )
    health_interval_seconds: float = Field(default=1.0, gt=0, description="How often Traefik asks each replica whether it is well.")
    health_timeout_seconds: float = Field(
        default=5.0, gt=0, description="Longer than the interval: a busy replica is slow before it is dead, a dead one refuses at once."
    )
    confirm_seconds: float = Field(default=10.0, gt=0, description="How long a change may take until Traefik's API shows it.")
    more_admin_urls: tuple[str, ...] = Field(
        default=(), description="Where the API of further instances answers that share the entry points and the directory with the first."
    )

    @field_validator("environment")
    @classmethod
    def _environment_is_a_name(cls, environment: str) -> str:
        return require_name("environment", environment)

    @field_validator("admin_url", "more_admin_urls")
    @classmethod
    def _are_addresses(cls, given: str | tuple[str, ...]) -> str | tuple[str, ...]:
        return without_logins(given)

    # ---- what should be

    def state(self) -> RoutingState:
        """What was last asked for. A state file that is broken or gone is made up for by its twin, which is never behind it. Raises
        `DeliveryError` when neither can be understood: an unknown fence is no fence.
        """
        broken = 0
        for file in self._state_files:
            try:
                return _STATE.validate_json(file.read_bytes())
            except FileNotFoundError:
                continue
            except ValidationError as problem:
                broken += problem.error_count()
        if not broken:
            return RoutingState()
        raise DeliveryError(
            f"The routing state of {self.environment} cannot be read: {broken} errors, expected what Greenroom wrote.",
            next=f"look at {' and '.join(map(str, self._state_files))}; remove them only while no rollout is under way.",
        )

    def claim(self, token: Token) -> None:
        """Makes `token` the environment's own unless a higher one was seen. Raises `StaleFence`."""
        with self._locked():
            state = self.state()
            self._refuse_stale(state, token)
            if token.fence > state.fence:
                self._save(replace(state, fence=token.fence))

    def require(self, token: Token) -> None:
        """Raises `StaleFence` when a higher token was seen. Cheap: asked before every single act."""
        self._refuse_stale(self.state(), token)

    def apply(self, token: Token, change: Change) -> RoutingState:
        """Brings the routing to what `change` makes of it, and returns when the API of every Traefik that is up shows it.

        Raises `StaleFence`; `DeliveryError` for a routing that would leave users without a server (the last good one stays);
        `TransientError` when Traefik does not show it in time.
        """
        # One broken file in the directory, whosever it is, would keep this change from being read.
        with contextlib.suppress(OSError):
            mend_all(self.dynamic_dir, self._folder)
        with self._locked():
            before = self.state()
            self._refuse_stale(before, token)
            wanted = replace(change(before), fence=max(before.fence, token.fence))
            document = self.render(wanted)
            # The state goes first: after a crash between the two it says more than Traefik does, and the next change writes both.
            self._save(wanted)
            self._publish(document)
        self._confirm(document, token)
        return wanted

    def wait_until_served(self, release: str, token: Token) -> None:
        """Returns when no Traefik that is up keeps a replica of this release from its users; they should be well already.

        A replica that was made anew may have got the address of the one that died. Then the routing says what it said before, Traefik does
        not read it again, and the address stays out until the next health check, which may wait for one that is under way.

        Raises `StaleFence`; `TransientError` when it takes longer than such checks may.
        """
        deadline = time.monotonic() + self.confirm_seconds + self.health_interval_seconds + self.health_timeout_seconds
        pause = _FIRST_POLL_SECONDS
        while out := {url for shown in self._admin.shown(self.environment) for url in shown.kept_out(release)}:
            self.require(token)
            if time.monotonic() > deadline:
                raise TransientError(
                    f"Traefik keeps {', '.join(sorted(out))} of {release} from its users, though Greenroom finds it well.",
                    next="look whether Traefik reaches these addresses, and at what their health path answers.",
                )
            time.sleep(pause)
            pause = min(2 * pause, _LONGEST_POLL_SECONDS)

    def repair(self) -> bool:
        """Puts Traefik's files of this environment back where they are missing or broken, and tells whether it had to. Cheap, needs no
        token and may be called at any time: a file that is whole stays as it is, and moving users is left to whoever holds the token.

        Raises `DeliveryError` when both files and the state are broken, or nothing can be written.
        """
        with self._written():
            if self._files.mend():
                return True
        with self._locked():
            if is_routing(_read(self._files.first)):
                return False
            state = self.state()
            if not state.releases:
                return False
            self._publish(self.render(state))
        return True

    def render(self, state: RoutingState) -> dict[str, Any]:
        """Traefik's dynamic configuration for `state`. Raises `DeliveryError` unless it serves every user."""
        refuse_unserved(self.environment, state)
        routers: dict[str, Any] = {}
        services: dict[str, Any] = {}
        serving = [service for release in state.releases.values() if release.weight for service in release.services.values()]
        prefixes = {prefix for service in serving for prefix in service.routes}
        for prefix in sorted(prefixes):
            children = []
            for release_id, release in state.releases.items():
                # A prefix that a release does not know by itself is served by the part of it that serves the paths above.
                found = _server_of(prefix, release)
                if found is None or not release.services[found].servers:
                    continue
                child = traefik_service(self.environment, found, release_id)
                services[child] = self._load_balancer(release.services[found])
                children.append({"name": child, "weight": release.weight})
            name = self._route_name(prefix)
            services[name] = {"weighted": {"healthCheck": {}, "services": children}}
            routers[name] = {
                "entryPoints": [self.entry_point],
                "rule": _rule(prefix),
                "service": name,
                "priority": 10 + len(prefix),
            }
        transport = {"maxIdleConnsPerHost": 200, "forwardingTimeouts": {"dialTimeout": "3s", "idleConnTimeout": "30s"}}
        http: dict[str, Any] = {"serversTransports": {self._transport: transport}}
        # Traefik refuses empty tables.
        http |= {"routers": routers, "services": services} if routers else {}
        return {"http": http}

    def _load_balancer(self, service: ServiceRoute) -> dict[str, Any]:
        return {
            "loadBalancer": {
                "servers": [{"url": url} for url in service.servers],
                "passHostHeader": True,
                "serversTransport": self._transport,
                "healthCheck": {
                    "path": service.health,
                    "interval": _duration(self.health_interval_seconds),
                    "timeout": _duration(self.health_timeout_seconds),
                },
            }
        }

    # ---- what is

    def live_weights(self) -> dict[str, int]:
        """Each release's share in percent, as Traefik's API tells it. Raises `TransientError` when it does not answer, or when instances
        do not come to tell the same.
        """
        deadline = time.monotonic() + min(self.confirm_seconds, _AGREE_SECONDS)
        while True:
            told = [self._weights_in(shown) for shown in self._admin.shown(self.environment)]
            if all(one == told[0] for one in told):
                return told[0]
            if time.monotonic() > deadline:
                raise TransientError(
                    f"Traefik's instances give the users of {self.environment} to {told}, expected the same of each.",
                    next=f"look at their logs: one broken file in {self.dynamic_dir} keeps all of them from being read.",
                )
            time.sleep(_LONGEST_POLL_SECONDS)

    def _weights_in(self, shown: Shown) -> dict[str, int]:
        weights: dict[str, int] = {}
        for name, service in shown.services.items():
            for child in service.get("weighted", {}).get("services", ()):
                release = child["name"].split("@")[0].split(".", 2)[2]
                percent = int(child.get("weight", 0))
                if weights.setdefault(release, percent) != percent:
                    raise DeliveryError(
                        f"Traefik gives release {release} {weights[release]} % on one route and {percent} % on {name}, expected one share.",
                        next=f"look at {self._files.first}: somebody else wrote it.",
                    )
        return weights

    @property
    def _admin(self) -> AdminUrls:
        return AdminUrls((self.admin_url, *self.more_admin_urls))

    def _confirm(self, document: Mapping[str, Any], token: Token) -> None:
        wanted = Shown(document["http"].get("routers", {}), document["http"].get("services", {})).shape
        deadline = time.monotonic() + self.confirm_seconds
        pause = _FIRST_POLL_SECONDS
        while True:
            problem = "it shows the one before"
            try:
                instances = self._admin.shown(self.environment)
                if all(shown.shape == wanted for shown in instances):
                    for shown in instances:
                        shown.refuse_disabled()
                    return
            except TransientError as silent:
                problem = silent.what
            self.require(token)
            if time.monotonic() > deadline:
                raise TransientError(
                    f"Traefik does not show the new routing of {self.environment} after {self.confirm_seconds:g} s: {problem}.",
                    next=f"look at Traefik's log: one broken file in {self.dynamic_dir} keeps all of them from being read.",
                )
            time.sleep(pause)
            pause = min(2 * pause, _LONGEST_POLL_SECONDS)

    # ---- files

    @property
    def _folder(self) -> Path:
        return self.work_dir or self.dynamic_dir.parent / f"{self.dynamic_dir.name}-routing"

    @property
    def _state_files(self) -> tuple[Path, Path]:
        return self._folder / f"{self.environment}.state.json", self._folder / f"{self.environment}.state~.json"

    @property
    def _files(self) -> DynamicFiles:
        return DynamicFiles(self.environment, self.dynamic_dir, self._folder)

    @property
    def _transport(self) -> str:
        return f"{self.environment}.replicas"

    def _route_name(self, prefix: str) -> str:
        # The hash tells /a/b from /a-b; the words are for people who look at Traefik's API.
        words = prefix.strip("/").replace("/", "-") or "root"
        return f"{self.environment}.route.{words}-{hashlib.sha256(prefix.encode()).hexdigest()[:6]}"

    @contextlib.contextmanager
    def _locked(self) -> Iterator[None]:
        """The environment's own lock, around reading the fence and acting on it."""
        with contextlib.ExitStack() as held:
            with self._written():
                held.enter_context(self._files.locked())
            yield

    @contextlib.contextmanager
    def _written(self) -> Iterator[None]:
        try:
            yield
        except OSError as broken:
            raise DeliveryError(
                f"The routing of {self.environment} cannot be written: {broken.strerror or type(broken).__name__}; the last one stays.",
                next=f"see that {self.dynamic_dir} and {self._folder} exist, are writable, have room, and lie on one file system.",
            ) from None

    def _refuse_stale(self, state: RoutingState, token: Token) -> None:
        if token.environment != self.environment:
            raise InvalidSettings(
                f"Got a token for {token.environment}, expected one for {self.environment}.", next="use the target of that environment."
            )
        if token.fence < state.fence:
            raise StaleFence(
                f"{token.rollout} holds fence {token.fence} of {self.environment}, and {state.fence} was already seen.",
                next="look at `greenroom status`: another holder goes on.",
            )

    def _save(self, state: RoutingState) -> None:
        text = _STATE.dump_json(state, indent=1)
        with self._written():
            # The twin goes first: whatever was claimed in the first file is in the twin as well.
            for file in reversed(self._state_files):
                write_beside(self._folder / f"{file.name}.new", text).rename(file)
            sync_folder(self._folder)

    def _publish(self, document: Mapping[str, Any]) -> None:
        with self._written():
            self._files.publish(json.dumps(document, indent=1, sort_keys=True).encode())


def _server_of(prefix: str, release: ReleaseRoute) -> str | None:
    """The service of the release that answers paths under `prefix`: the one with the longest route that covers it."""
    covering = [
        (len(route), name)
        for name, service in release.services.items()
        for route in service.routes
        if route == prefix or prefix.startswith(route if route.endswith("/") else f"{route}/")
    ]
    return max(covering)[1] if covering else None


def _rule(prefix: str) -> str:
    """`/api` means itself and everything below, and not `/apix`."""
    return f"PathPrefix(`{prefix}`)" if prefix.endswith("/") else f"Path(`{prefix}`) || PathPrefix(`{prefix}/`)"


def _duration(seconds: float) -> str:
    return f"{round(1000 * seconds)}ms"


def _read(file: Path) -> bytes | None:
    try:
        return file.read_bytes()
    except OSError:
        return None
