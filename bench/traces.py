"""Adversarial canaries: what tempts a judge to be wrong, with what it should say. 100 requests per second at 50 % unless said."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from math import inf

import numpy as np

from bench.canaries import BOUNDS, LOOKS, Canaries, Numbers, World, draw, generator, scenario
from delivery.canary import Decision
from delivery.counters import counts, grown
from delivery.evidence import Counts, Pair
from delivery.health import Counters

RATE = 0.002
PROMOTED, BACK, UNDECIDED = Decision.PROMOTE, Decision.ROLLBACK, Decision.INCONCLUSIVE
REPLICAS = ("green 1", "green 2", "green 3")
ENDPOINTS = ("GET /", "GET /listings", "POST /listings")


@dataclass(frozen=True)
class Trace:
    """`wanted` are the verdicts that a canary may end with, `median` the reference's median look of it (None: none is stated).

    `groups` are arrays n_g, n_b, x_g, x_b of the shape (canaries, looks, names).
    """

    canaries: Canaries
    wanted: tuple[Decision, ...]
    median: float | None = None
    promotion_enabled: bool = True
    names: tuple[str, ...] = ()
    groups: tuple[Numbers, ...] = ()

    def parts(self, canary: int) -> list[Mapping[str, Pair]]:
        """The groups of each look of a canary."""
        if not self.groups:
            return [{}] * self.canaries.n_g.shape[1]
        looks = zip(*(part[canary].tolist() for part in self.groups), strict=True)
        return [
            {name: Pair(Counts(n_g, x_g), Counts(n_b, x_b)) for name, n_g, n_b, x_g, x_b in zip(self.names, *look, strict=True)}
            for look in looks
        ]


def _at(looks: Sequence[int], there: float, elsewhere: float) -> Numbers:
    """A value per look; looks are counted from 1."""
    found = np.full(LOOKS, elsewhere)
    found[[look - 1 for look in looks]] = there
    return found


WORLDS: dict[str, tuple[World, tuple[Decision, ...], float | None]] = {
    "cold": (World(RATE, RATE, scale_g=_at([1], 4.0, 1.0)), (PROMOTED,), 6),
    "cold2": (World(_at([1], RATE + 0.02, RATE), RATE, scale_g=_at([1], 4.0, 1.0)), (BACK,), 1),
    "sick": (World(0.08, 0.08), (UNDECIDED,), None),
    "sick2": (World(0.16, 0.08), (BACK,), 2),
    "fix": (World(RATE, 0.08), (PROMOTED,), 6),
    "zero": (World(RATE, RATE), (UNDECIDED,), None),
    "tiny": (World(RATE, RATE), (UNDECIDED,), None),
    "late": (World(_at(range(21, LOOKS + 1), 0.02, RATE), RATE), (BACK,), 21),
    "heal": (World(_at([1, 2], 0.02, RATE), RATE), (BACK,), 1),
    "faster": (World(RATE, RATE, scale_g=0.8), (PROMOTED,), 6),
    "tail": (World(RATE, RATE, tail_g=0.03), (BACK,), 5),
    "reset": (World(RATE, RATE), (PROMOTED,), 6),
}
TRAFFIC = {"zero": (100.0, 0.0), "tiny": (0.2, 0.1)}
NAMES = ("diurnal", "burst", *WORLDS, "replica", "endpoint", "endpoint totals")


def trace(name: str, canaries: int) -> Trace:
    """The trace of this name, drawn with the generator of the cell `trace/<name>`; `endpoint totals` is `endpoint` without its groups."""
    rng = generator(f"trace/{name.removesuffix(' totals')}")
    if name in ("diurnal", "burst"):
        world = scenario(rng, {"burst": "shared_burst"}.get(name, name), RATE, canaries)
        return Trace(
            draw(rng, world, rps=100, weight=0.5, canaries=canaries), (PROMOTED,) if name == "diurnal" else (PROMOTED, UNDECIDED), 6
        )
    if name == "replica":
        return _replica(rng, canaries)
    if name.startswith("endpoint"):
        found = _endpoint(rng, canaries)
        return replace(found, groups=(), wanted=(PROMOTED, BACK, UNDECIDED), median=None) if name.endswith("totals") else found
    world, wanted, median = WORLDS[name]
    rps, weight = TRAFFIC.get(name, (100.0, 0.5))
    drawn = draw(rng, world, rps=rps, weight=weight, canaries=canaries)
    if name == "reset":
        drawn = _counted(drawn, resets_at=30)
    return Trace(drawn, wanted, median, promotion_enabled=name != "late")


def _replica(rng: np.random.Generator, canaries: int) -> Trace:
    """Green's requests split evenly over three replicas, one of which errs ten times as often; each is compared with all of blue."""
    drawn = draw(rng, World(RATE, RATE), rps=100, weight=0.5, canaries=canaries)
    n_g = rng.multinomial(drawn.n_g, [1 / 3] * 3)
    x_g = rng.binomial(n_g, [RATE, RATE, 10 * RATE])
    n_b, x_b = (np.repeat(total[..., None], 3, axis=-1) for total in (drawn.n_b, drawn.x_b))
    return Trace(replace(drawn, x_g=x_g.sum(axis=-1)), (BACK,), 1, names=REPLICAS, groups=(n_g, n_b, x_g, x_b))


def _endpoint(rng: np.random.Generator, canaries: int) -> Trace:
    """Both colours split 90 / 9 / 1 % over three endpoints at 0.5 % errors; green's third errs in 30 %."""
    drawn = draw(rng, World(0.005, 0.005), rps=100, weight=0.5, canaries=canaries)
    split = [0.9, 0.09, 0.01]
    n_g, n_b = rng.multinomial(drawn.n_g, split), rng.multinomial(drawn.n_b, split)
    x_g, x_b = rng.binomial(n_g, [0.005, 0.005, 0.3]), rng.binomial(n_b, 0.005)
    drawn = replace(drawn, x_g=x_g.sum(axis=-1), x_b=x_b.sum(axis=-1))
    return Trace(drawn, (BACK,), 2, names=ENDPOINTS, groups=(n_g, n_b, x_g, x_b))


def _counted(drawn: Canaries, *, resets_at: int) -> Canaries:
    """The same canaries as a scraper sees them: green's counters rise, and fall to nought once. They come back through the rule for it."""
    n_g, x_g, h_g = (np.zeros_like(counted) for counted in (drawn.n_g, drawn.x_g, drawn.h_g))
    edges = (*BOUNDS, inf)
    for canary in range(len(n_g)):
        before = {"green": Counters({200: 0.0, 500: 0.0}, dict.fromkeys(edges, 0.0))}
        requests, errors, buckets = 0, 0, np.zeros(len(edges))
        for look in range(n_g.shape[1]):
            if look + 1 == resets_at:
                requests, errors, buckets = 0, 0, np.zeros(len(edges))
            requests += int(drawn.n_g[canary, look])
            errors += int(drawn.x_g[canary, look])
            buckets += drawn.h_g[canary, look]
            now = Counters({200: float(requests - errors), 500: float(errors)}, dict(zip(edges, np.cumsum(buckets).tolist(), strict=True)))
            growth, before = grown(before, {"green": now})
            found = counts(growth, BOUNDS)
            n_g[canary, look], x_g[canary, look], h_g[canary, look] = found.requests, found.errors, found.buckets
    return replace(drawn, n_g=n_g, x_g=x_g, h_g=h_g)
