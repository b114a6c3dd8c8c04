"""Production at rest: what has to be true once nothing is left to do, whatever died before."""

from collections import Counter
from collections.abc import Iterator

import httpx

from delivery.source import Semver
from tests.chaos.through_prefect.scenarios import Pipeline
from tests.system.premises import until

SAMPLES = 12


def disturbances(pipeline: Pipeline) -> list[str]:
    """What is not as it should be, as sentences; empty when production is at rest."""
    until(lambda: _is_quiet(pipeline) or None, "everybody to let go of production")
    return [
        *_one_release_is_live(pipeline),
        *_the_journal_tells_what_is(pipeline),
        *_nothing_is_left_over(pipeline),
        *_chains_hold(pipeline),
    ]


def _is_quiet(pipeline: Pipeline) -> bool:
    held = [lease for lease in pipeline.journal.leases() if lease.environment == "production"]
    return not held and not pipeline.journal.rollouts(environment="production", open_only=True)


def _one_release_is_live(pipeline: Pipeline) -> Iterator[str]:
    """I2, as twelve users meet it, each over a connection of their own."""
    live = pipeline.journal.live("production")
    url = f"{pipeline.installation.public_url('production')}/health"
    with httpx.Client(timeout=10, trust_env=False, headers={"Connection": "close"}) as users:
        met = Counter(str(users.get(url).json().get("version")) for _ in range(SAMPLES))
    if live is None or set(met) != {str(live.version)}:
        yield f"I2: users meet {dict(met)}, the journal says {live.id if live else 'nothing'} is live"


def _the_journal_tells_what_is(pipeline: Pipeline) -> Iterator[str]:
    """I4 for containers: the live release runs complete, from the images that the journal names."""
    live = pipeline.journal.live("production")
    if live is None:
        yield "I4: nothing is live"
        return
    expected = {service.name: service.replicas for service in live.services}
    running = _running(pipeline)
    if (found := running.get(live.id, Counter())) != expected:
        yield f"I4: of {live.id} run {dict(found)}, expected {expected}"
    images = set(live.images.values())
    if foreign := pipeline.installation.images_of("production").get(live.id, set()) - images:
        yield f"I4: {live.id} runs {', '.join(map(str, foreign))}"


def _nothing_is_left_over(pipeline: Pipeline) -> Iterator[str]:
    """I5: besides the live release only the one runs that it replaced, warm, without a doubled replica."""
    live, previous = pipeline.journal.live("production"), pipeline.journal.previous("production")
    warm = {release.id for release in (live, previous) if release}
    newest = pipeline.record()
    if newest.promoted_at is None:
        warm.discard(newest.release)  # it was turned back: stopped, whatever it had been before
    for release, services in _running(pipeline).items():
        if release not in warm:
            yield f"I5: {release} still runs: {dict(services)}"
        wanted = {service.name: service.replicas for service in pipeline.journal.release_of(_version_of(release)).services}
        for service, count in services.items():
            if count > wanted.get(service, 0):
                yield f"I5: {count} replicas of {service} of {release} run, expected {wanted.get(service, 0)}"


def _chains_hold(pipeline: Pipeline) -> Iterator[str]:
    """I11; `verify_chain` raises, naming the entry."""
    for record in pipeline.journal.rollouts(environment="production", limit=500):
        pipeline.journal.verify_chain(record.id)
        if record.ending is None:
            yield f"I9: {record.id} has not ended"


def _running(pipeline: Pipeline) -> dict[str, Counter[str]]:
    found: dict[str, Counter[str]] = {}
    for container in pipeline.installation.containers("production"):
        if container.status == "running":
            found.setdefault(container.labels["greenroom.release"], Counter())[container.labels["greenroom.service"]] += 1
    return found


def _version_of(release: str) -> Semver:
    return Semver.parse(release.removeprefix("v").rsplit("-", 1)[0])
