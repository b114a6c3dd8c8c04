"""Which replicas Traefik is told of: those that run, of each release that has users or could get some."""

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace

import httpx

from blocks.docker_replicas import Replicas
from blocks.engine_facts import Found
from blocks.traefik import ReleaseRoute, RoutingState, ServiceRoute
from delivery.ports import Token
from delivery.release import Release


@dataclass(frozen=True)
class ReplicaRouting:
    """Keeps what Traefik is told in step with what the engine lists."""

    replicas: Replicas

    def route(
        self,
        token: Token,
        shares: Callable[[Mapping[str, int]], Mapping[str, int]],
        *,
        known: Sequence[Release],
        live: str | None = None,
        without: str | None = None,
    ) -> RoutingState:
        """Writes the routing with these shares, and returns when Traefik shows it. Releases without a share stay, at 0, while they run;
        of the known ones the replicas are looked up anew, of all others only those are kept that still run.
        """
        webs = [found for found in self.replicas.of_kind("web") if found.runs]
        fresh = {release.id: self._services_of(release, webs) for release in known}
        hosts = {found.addresses.get(self.replicas.network) for found in webs}

        def change(before: RoutingState) -> RoutingState:
            percents = shares(before.weights)
            services = {id_: _still_there(route.services, hosts) for id_, route in before.releases.items()} | fresh
            releases = {
                id_: ReleaseRoute(percents.get(id_, 0), own)
                for id_, own in services.items()
                if id_ != without and (percents.get(id_, 0) or any(service.servers for service in own.values()))
            }
            return replace(before, releases=releases, live=live or (before.live if before.live != without else None))

        return self.replicas.traffic.apply(token, change)

    def forget_the_dead(self, token: Token) -> None:
        """Takes replicas that have died out of the routing before anything new starts: the engine may give their addresses to it, and
        Traefik would take it for theirs. A release that would be left without any keeps them; its users have nobody else to ask.
        """
        webs = self.replicas.of_kind("web")
        hosts = {found.addresses.get(self.replicas.network) for found in webs if found.runs}
        releases = self.replicas.traffic.state().releases.values()
        alive = [
            (release.weight, name, service, _still_there(release.services, hosts)[name])
            for release in releases
            for name, service in release.services.items()
        ]
        has_dead = any(service.servers != left.servers for _, _, service, left in alive)
        if has_dead and all(left.servers for weight, _, _, left in alive if weight):
            self.route(token, lambda shares: shares, known=())

    def _services_of(self, release: Release, webs: Sequence[Found]) -> dict[str, ServiceRoute]:
        own = [found for found in webs if found.label("release") == release.id and found.addresses.get(self.replicas.network)]
        return {
            service.name: ServiceRoute(
                servers=tuple(self.replicas.url(service, found) for found in own if found.label("service") == service.name),
                routes=tuple(service.routes),
                health=service.health or "/",
            )
            for service in release.services
            if service.takes_requests
        }


def _still_there(services: Mapping[str, ServiceRoute], hosts: Iterable[str | None]) -> dict[str, ServiceRoute]:
    known = {*hosts}
    return {
        name: replace(service, servers=tuple(url for url in service.servers if httpx.URL(url).host in known))
        for name, service in services.items()
    }
