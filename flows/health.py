"""Every few minutes: how each environment fares, as a page per environment that a team looks at. Looks only, and changes nothing."""

from prefect import flow

from blocks.settings import environment_names
from delivery.errors import DeliveryError
from delivery.health_overview import EnvironmentHealth, wanted_gauges
from delivery.release import Release
from flows.assembly import House, open_house
from flows.messages import in_one_message
from flows.parameters import EnvironmentName, LookSeconds
from flows.rollout import log
from flows.telling import leave_artifact, this_run
from tasks.health import health_markdown, look_twice, remember
from tasks.scene import Clock, SteadyClock

NO_ENVIRONMENT = "There is no environment yet."


@flow(name="health-overview", flow_run_name="health overview", retries=0, persist_result=False)
@in_one_message
def health_overview(environment: EnvironmentName | None = None, seconds: LookSeconds = 15) -> str:
    """Measures requests, errors, response times, and what the application tells of its database pool, Redis and queue.

    Args:
        environment: Only this environment; empty for all.
        seconds: How long to count requests.

    """
    with open_house() as house:
        found, broken = look_at(house, [environment] if environment else None, seconds=seconds)
        for seen in found:
            now = house.store.now()
            if seen.releases and (run_id := this_run()):
                points = remember(house.settings.work_dir / "health" / f"{seen.environment}.json", seen, at=now)
                page = health_markdown(seen, at=now, points=points)
                leave_artifact(run_id, f"health-{seen.environment}", "markdown", page, seen.sentence())
        said = " ".join(seen.sentence() for seen in found)
        if broken:
            raise DeliveryError(" ".join([*(error.what for error in broken), said]).strip(), next=broken[0].next)
        return said or NO_ENVIRONMENT


def look_at(
    house: House, names: list[str] | None, *, seconds: float, clock: Clock | None = None
) -> tuple[list[EnvironmentHealth], list[DeliveryError]]:
    """How these environments fare (None: all), and what kept others from being looked at. One that is broken keeps no other."""
    found: list[EnvironmentHealth] = []
    broken: list[DeliveryError] = []
    for name in environment_names(house.settings.environments_dir) if names is None else names:
        try:
            policy, releases = house.environment(name), _with_users(house, name)
            source = house.metrics(policy, also=wanted_gauges(releases, policy.trigger)) if releases else None
            found.append(look_twice(name, releases, source, limits=policy.trigger, seconds=seconds, clock=clock or SteadyClock()))
        except DeliveryError as error:
            log.warning("%s: %s", name, error)
            broken.append(error)
    return found, broken


def _with_users(house: House, name: str) -> tuple[Release, ...]:
    """What is live, and what is on its way to be."""
    store = house.store
    under_way = [store.release(record.release) for record in store.rollouts(environment=name, open_only=True)]
    live = store.live(name)
    return tuple({release.id: release for release in (*([live] if live else []), *under_way)}.values())
