"""What Traefik does, as its API tells it: one process, or several alike that share their entry points."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import httpx

from blocks.http import shared_client
from delivery.addresses import why_not
from delivery.errors import DeliveryError, TransientError

_SECONDS = 3.0


def without_logins(given: str | tuple[str, ...]) -> str | tuple[str, ...]:
    """The addresses as they are. Raises `ValueError`, which pydantic tells, for one that is none or that would show a login in messages."""
    for address in (given,) if isinstance(given, str) else given:
        if why := why_not(address, secret=False):
            raise ValueError(why)
    return given


@dataclass(frozen=True)
class Shown:
    """One environment's routers and services as one instance runs them (or as they were written), by name without the provider."""

    routers: Mapping[str, Any]
    services: Mapping[str, Any]

    @property
    def shape(self) -> tuple[dict[str, Any], dict[str, Any]]:
        """What matters, in a form in which the written configuration and the API's answer can be compared."""
        return (
            {name: (router["rule"], _plain(router["service"]), tuple(router["entryPoints"])) for name, router in self.routers.items()},
            {name: _service_shape(service) for name, service in self.services.items()},
        )

    def kept_out(self, release: str) -> list[str]:
        """The release's replicas that this instance's own health checks keep from users, by URL."""
        return sorted(
            url
            for name, service in self.services.items()
            if name.split(".", 2)[2:] == [release]
            for url, status in service.get("serverStatus", {}).items()
            if status != "UP"
        )

    def refuse_disabled(self) -> None:
        """Raises `DeliveryError` for what Traefik has read and does not serve."""
        for name, thing in {**self.services, **self.routers}.items():
            if thing.get("status") != "enabled":
                problems = thing.get("error", [])
                raise DeliveryError(
                    f"Traefik refuses {name}: {'; '.join(map(str, problems)) or thing.get('status')}.",
                    next="look at Traefik's log, and see that the entry point exists.",
                )


@dataclass(frozen=True)
class AdminUrls:
    """Where the API of each instance answers.

    An instance whose port refuses connections is down: the kernel has closed its entry points with it, it serves nobody, and it reads the
    directory when it starts. One that is silent or answers something else may be serving users: what it does is unknown.
    """

    urls: tuple[str, ...]

    def shown(self, environment: str) -> list[Shown]:
        """The environment's routing in each instance that is up, never empty. Raises `TransientError` for none, or an unknown one."""
        so = f"so nobody knows who gets {environment}'s users"
        found = []
        for url, answer in self.ask("/api/rawdata", so).items():
            try:
                told = answer.json()
                found.append(Shown(_own(environment, told.get("routers", {})), _own(environment, told.get("services", {}))))
            except (ValueError, AttributeError) as broken:
                raise _unknown(url, broken, so) from None
        return found

    def ask(self, path: str, so: str) -> Mapping[str, httpx.Response]:
        """The answer of each instance that is up, by its URL; never empty. Raises `TransientError`, whose sentence goes on with `so`."""
        answers: dict[str, httpx.Response] = {}
        down: Exception | None = None
        for url in self.urls:
            try:
                answers[url] = shared_client().get(f"{url}{path}", timeout=_SECONDS).raise_for_status()
            except httpx.HTTPError as broken:
                down = broken
                if not _refused(broken):
                    raise _unknown(url, broken, so) from None
        if not answers:
            raise _unknown(" and ".join(self.urls), down, so)
        return answers


def _unknown(url: str, broken: Exception | None, so: str) -> TransientError:
    return TransientError(
        f"Traefik's API did not answer as expected ({type(broken).__name__}), {so}.",
        next=f"look whether Traefik runs and answers at {url}.",
    )


def _refused(broken: BaseException | None) -> bool:
    """Did the machine itself say that nobody listens there? httpx keeps the system's own error as the cause of its causes."""
    while broken is not None:
        if isinstance(broken, ConnectionRefusedError):
            return True
        broken = broken.__cause__ or broken.__context__
    return False


def _own(environment: str, things: Mapping[str, Any]) -> dict[str, Any]:
    mine = f"{environment}."
    return {_plain(name): thing for name, thing in things.items() if name.startswith(mine) and name.endswith("@file")}


def _plain(name: str) -> str:
    return name.removesuffix("@file")


def _service_shape(service: Mapping[str, Any]) -> object:
    if "weighted" in service:
        return {_plain(child["name"]): int(child.get("weight", 0)) for child in service["weighted"]["services"]}
    balancer = service["loadBalancer"]
    return frozenset(server["url"] for server in balancer["servers"]), balancer.get("healthCheck", {}).get("path")
