"""The invariants, each a function that returns what breaks it, as sentences. They are asked when all is quiet after a scenario.

I3, I6, I7 and I12 are about migrations, secrets and signatures; the tests of those keep them.
"""

from collections import Counter
from collections.abc import Callable, Iterator
from itertools import pairwise
from pathlib import Path

from delivery.errors import DeliveryError
from delivery.journal import Ending, Progress
from tests.chaos.real.load import told
from tests.chaos.real.place import REPLICAS
from tests.chaos.real.world import World, weights_in

Invariant = Callable[[World], Iterator[str]]


def i1_no_user_meets_an_error(world: World) -> Iterator[str]:
    failed = [seen for seen in world.answers if seen.failed]
    if failed:
        yield f"I1: {len(failed)} of {len(world.answers)} requests failed: {told(failed)}"


def i1_acknowledged_orders_exist_exactly_once(world: World) -> Iterator[str]:
    for seen in world.answers:
        if seen.kind != "order":
            continue
        times = world.orders.get(seen.order, 0)
        if seen.acknowledged and times != 1:
            yield f"I1: the acknowledged order {seen.order} is in the database {times} times"
        elif times > 1:
            yield f"I1: the order {seen.order}, which failed, is in the database {times} times"


def i2_one_release_is_live(world: World) -> Iterator[str]:
    weights = {release: weight for release, weight in world.standing.weights.items() if weight}
    if weights != {world.live: 100}:
        yield f"I2: Traefik's weights are {weights}, expected 100 % for {world.live}"
    version = (world.live or "v?").split("-")[0].removeprefix("v")
    if set(world.sampled) != {version}:
        yield f"I2: users meet {dict(world.sampled)}, expected only {version}"


def i4_the_journal_tells_what_is(world: World) -> Iterator[str]:
    if world.live is None:
        yield "I4: the journal knows no live release"
        return
    if world.target.traffic.state().live != world.live:
        yield f"I4: the routing's state calls {world.target.traffic.state().live} live, the journal {world.live}"
    live = [replica for replica in world.replicas if replica.release == world.live and replica.runs]
    if (running := Counter(replica.service for replica in live)) != REPLICAS:
        yield f"I4: of the live {world.live} run {dict(running)}, expected {REPLICAS}"
    images = world.journal.release(world.live).images
    for replica in live:
        if replica.image != str(images[replica.service]):
            yield f"I4: {replica.name} runs {replica.image}, the journal's release has {images[replica.service]}"
    for record in world.recent:
        if record.ending is Ending.UNTOUCHED and _had_users(world, record.release, record.id):
            yield f"I4: {record.id} ended as UNTOUCHED, and {record.release} had had users"


def _had_users(world: World, release: str, rollout: str) -> bool:
    """Whether the rollout's walkers gave the release a share, as the log of effects tells."""
    current: dict[int, str] = {}
    for effect in world.history:
        if effect.kind == "journal" and "rollout" in effect.facts:
            current[effect.pid] = effect.facts["rollout"]
        elif effect.what == "routing" and effect.when == "done" and current.get(effect.pid) == rollout and weights_in(effect).get(release):
            return True
    return False


def i4_acts_are_written_ahead(world: World) -> Iterator[str]:
    """Each act of a step follows the entry that says that the step has begun, in the same process."""
    begun: dict[int, set[str]] = {}
    for effect in world.effects:
        step = effect.step
        if effect.kind == "journal":
            if "Started" in effect.facts.get("events", ()) and effect.what == "Started" and effect.when == "done":
                begun.setdefault(effect.pid, set()).add(step)
            continue
        if effect.when != "begin" or step in ("open", "close", "retire", "turn back") or effect.kind in ("lease", "apply"):
            continue
        if step not in begun.get(effect.pid, set()):
            yield f"I4: {effect.name} by {effect.who} was not written ahead"


def i5_no_replica_is_left_over(world: World) -> Iterator[str]:
    """What runs belongs to the live release; what has stopped is the remains of a rollout that failed, kept for the post-mortem."""
    newest: dict[str, Ending | None] = {}
    for record in world.rollouts:
        newest.setdefault(record.release, record.ending)
    for replica in world.replicas:
        if replica.kind == "once":
            yield f"I5: the one-off container {replica.name} is still there"
        elif replica.release != world.live and replica.runs:
            yield f"I5: {replica.name} runs and belongs to nobody"
        elif replica.release != world.live and newest.get(replica.release) in (Ending.LIVE, None):
            yield f"I5: {replica.name} ({replica.state}) is no remains of a failed rollout"
    doubled = Counter((replica.release, replica.service) for replica in world.replicas if replica.runs)
    for (release, service), count in doubled.items():
        if count > REPLICAS[service]:
            yield f"I5: {count} replicas of {service} of {release} run, expected {REPLICAS[service]}"


def i5_nothing_else_is_left_over(world: World) -> Iterator[str]:
    for release in world.networks:
        if release != world.live:
            yield f"I5: the network of {release} is still there"
    for file in Path(world.place.work_dir).glob(f"{world.place.environment}*.new"):
        yield f"I5: the half-written file {file.name} is still there"
    now = world.journal.now()
    for lease in world.journal.leases():
        if lease.environment == world.place.environment and lease.expires_at > now:
            yield f"I5: {lease.holder} still holds the lease for {lease.purpose}"


def i8_fences_never_go_down(world: World) -> Iterator[str]:
    written = [effect for effect in world.history if effect.what == "state" and effect.when == "done"]
    for before, after in pairwise(written):
        if after.facts["fence"] < before.facts["fence"]:
            yield f"I8: {after.name} wrote fence {after.facts['fence']} after {before.facts['fence']}"
    # The journal and the target each refuse what is lower than what they have seen; neither knows what the other one has seen.
    highest = {"journal": 0, "target": 0}
    for effect in world.effects:
        if effect.when != "done" or effect.kind in ("lease", "apply") or effect.fence is None:
            continue
        where = "journal" if effect.kind == "journal" else "target"
        if effect.fence < highest[where]:
            yield f"I8: {effect.name} by {effect.who} was done with fence {effect.fence}, after {highest[where]} had been seen"
        highest[where] = max(highest[where], effect.fence)
    for record in world.recent:
        fences = [entry.fence for entry in world.entries(record.id)]
        if fences != sorted(fences):
            yield f"I8: the fences of {record.id}'s entries go down: {fences}"


def i9_every_rollout_has_ended(world: World) -> Iterator[str]:
    for record in world.rollouts:
        if record.ending is None:
            yield f"I9: {record.id} is still open"
        elif record.ending is Ending.NEEDS_HUMAN:
            yield f"I9: {record.id} asks for a person: {record.message}"


def i10_users_come_after_proof_and_blue_stays(world: World) -> Iterator[str]:
    """Green gets users only after check and smoke were well; whoever has a share is not stopped."""
    proven: dict[str, set[str]] = {}  # by rollout: the steps that were well
    rollout: dict[int, str] = {}
    weights: dict[str, int] = {}
    released = {record.id: record.release for record in world.rollouts}
    for effect in world.history:
        if effect.kind == "journal" and "rollout" in effect.facts:
            rollout[effect.pid] = effect.facts["rollout"]
            if effect.what in ("Finished", "Promoted") and effect.when in ("done", "begin") and effect.facts.get("well"):
                proven.setdefault(rollout[effect.pid], set()).add(effect.step)
        elif effect.what == "routing" and effect.when == "done":
            here = rollout.get(effect.pid, "")
            green = released.get(here)
            gains = green is not None and weights_in(effect).get(green, 0) > weights.get(green, 0)
            if gains and not {"check", "smoke"} <= proven.get(here, set()):
                yield f"I10: {effect.name} gave users to {green} with only {sorted(proven.get(here, set()))} proven"
            weights = weights_in(effect)
        elif (
            effect.kind in ("stop", "kill", "remove")
            and effect.when == "begin"
            and effect.what[:3] == "api"
            and weights.get(effect.release)
        ):
            yield f"I10: {effect.name} by {effect.who} while {effect.release} had {weights[effect.release]} % of the users"


def i11_the_chain_verifies(world: World) -> Iterator[str]:
    for record in world.recent:
        try:
            world.journal.verify_chain(record.id)
            progress = Progress.of(entry.event for entry in world.entries(record.id))
        except DeliveryError as broken:
            yield f"I11: {record.id}: {broken.what}"
            continue
        if progress.closed is None or record.ending is not progress.closed.ending:
            yield f"I11: {record.id} ended as {record.ending}, its entries tell {progress.closed}"


INVARIANTS: tuple[Invariant, ...] = (
    i1_no_user_meets_an_error,
    i1_acknowledged_orders_exist_exactly_once,
    i2_one_release_is_live,
    i4_the_journal_tells_what_is,
    i4_acts_are_written_ahead,
    i5_no_replica_is_left_over,
    i5_nothing_else_is_left_over,
    i8_fences_never_go_down,
    i9_every_rollout_has_ended,
    i10_users_come_after_proof_and_blue_stays,
    i11_the_chain_verifies,
)


def broken(world: World, *, apart: bool = False) -> list[str]:
    """What does not hold; `apart` leaves out the failed requests of a fault that no pipeline can hide."""
    asked = [one for one in INVARIANTS if not (apart and one is i1_no_user_meets_an_error)]
    return [sentence for invariant in asked for sentence in _asked(invariant, world)]


def _asked(invariant: Invariant, world: World) -> list[str]:
    try:
        return list(invariant(world))
    except Exception as broken:  # noqa: BLE001  what cannot be read is broken too, and the other invariants are still asked
        return [f"{invariant.__name__}: could not be asked ({type(broken).__name__}: {str(broken)[:200]})"]
