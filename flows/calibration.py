"""Scheduled: how much do two halves of what is live differ by chance? The judge of the next rollout must not take that for a regression."""

from uuid import uuid4

from prefect import flow

from blocks.replica_metrics import ReplicaMetrics
from blocks.settings import environment_names
from delivery.calibration import NEWEST, Calibration, known_noise
from delivery.environment import Environment
from delivery.errors import DeliveryError
from delivery.noise import QUIET, Noise
from delivery.release import Release
from flows.assembly import House, open_house
from flows.messages import in_one_message
from flows.parameters import EnvironmentName, HowManyLooks
from flows.rollout import log
from tasks.calibration import compare_halves, measurable
from tasks.scene import Clock, SteadyClock


@flow(name="calibration", flow_run_name="calibration", retries=0, persist_result=False)
@in_one_message
def calibration(environment: EnvironmentName | None = None, looks: HowManyLooks = 20) -> str:
    """Compares two halves of each live release's replicas, so that the judge knows how much two alike versions differ by chance.

    Args:
        environment: Only this environment; empty for every one whose rollouts are judged.
        looks: How many looks to take, each as long as the environment's judge.look_seconds.

    """
    with open_house() as house:
        return calibrate(house, environment, looks=looks)


def calibrate(house: House, environment: str | None, *, looks: int, clock: Clock | None = None) -> str:
    """The sentences of all environments. One that cannot be measured fails the run after the others had their turn."""
    said: list[str] = []
    broken: list[DeliveryError] = []
    for name in [environment] if environment else environment_names(house.settings.environments_dir):
        try:
            policy = house.environment(name)
            if environment or is_judged(policy):
                said.append(_calibrate_one(house, policy, looks=looks, clock=clock or SteadyClock()))
        except DeliveryError as error:
            log.warning("%s: %s", name, error)
            broken.append(error)
    if broken:
        raise DeliveryError(" ".join([*(error.what for error in broken), *said]), next=broken[0].next)
    return " ".join(said) or "No environment compares two versions."


def is_judged(environment: Environment) -> bool:
    """Both versions have users at some step, for some time, and a judge."""
    return environment.judge.enabled and environment.traffic.watch_seconds > 0 and environment.traffic.steps[0] < 100


def _calibrate_one(house: House, environment: Environment, *, looks: int, clock: Clock) -> str:
    store, name = house.store, environment.name
    release = store.live(name)
    if release is None:
        return f"{environment.title} has nothing live yet."
    if not measurable(release):
        return f"{environment.title} is not measured: no service of {release.id} has two replicas and says where its metrics are."

    def undisturbed() -> bool:
        live = store.live(name)
        return not store.rollouts(environment=name, open_only=True) and live is not None and live.id == release.id

    if not undisturbed():
        return f"{environment.title} is not measured while a rollout is under way."
    replicas, settings = ReplicaMetrics(house.target(environment).addresses), environment.judge
    found = compare_halves(
        lambda: replicas.requests(release), look_seconds=settings.look_seconds, looks=looks, go_on=undisturbed, clock=clock
    )
    seen = [
        Calibration(name, service, release.id, store.now(), settings.look_seconds, halves) for service, halves in found.items() if halves
    ]
    if not seen:
        return f"{environment.title} could not be measured: its replicas did not tell their requests, or had none."
    store.add_calibrations(seen, key=str(uuid4()))
    return f"{environment.title}: {_sentence(house, environment, release)}"


def _sentence(house: House, environment: Environment, release: Release) -> str:
    """What the judge would know now."""
    kept, seconds = house.store.calibrations(environment.name, newest=NEWEST), environment.judge.look_seconds
    looks = sum(len(one.halves) for one in kept)
    services = [service.name for service in release.services if service.takes_requests]
    noise, _ = known_noise(kept, services, look_seconds=seconds, usual=environment.judge.error_noise)
    return f"{looks} looks of {seconds:g} s at two halves are known; {_told(noise)}."


def _told(noise: Noise) -> str:
    if noise == QUIET:
        return "they give no reason to expect more noise than usual"
    if noise.clump > 1:
        return f"errors come in clumps, and weigh {noise.clump:.3g} times less"
    return f"the ratio of alike versions varies by {100 * (noise.ratio or 0.0):.0f} % from look to look"
