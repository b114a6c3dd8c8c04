"""What is known before a canary, what is seen of it look by look, and what the judge remembers: values only."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import StrEnum
from itertools import pairwise
from math import isfinite

from delivery.application import STRICT
from delivery.evidence import NOTHING_BET, NOTHING_SEEN, Capital, Pair
from delivery.noise import QUIET, Noise


class Decision(StrEnum):
    CONTINUE = "CONTINUE"
    HOLD = "HOLD"
    PROMOTE = "PROMOTE"
    ROLLBACK = "ROLLBACK"
    INCONCLUSIVE = "INCONCLUSIVE"


FINAL = (Decision.PROMOTE, Decision.ROLLBACK, Decision.INCONCLUSIVE)


@dataclass(frozen=True)
class Bets:
    """On what the evidence bets, and how much: fixed before the canary, each tuple of weights sums to 1.

    `ratios` of green's error rate to blue's; `scales` and `tails` as in `Slower`; `slower_weights` has one entry per scale, then one
    per tail. `errors_weight` goes to errors, the rest to latency. `first_stake` is bet from the first look on, the rest is spread
    evenly over starts at later looks. Weights cost no validity, only time: what a bet of weight w wins has to make up for log(1/w).
    Most lies on regressions from the start that double the errors: larger ones are found at once whatever they weigh.
    """

    __pydantic_config__ = STRICT

    ratios: tuple[float, ...] = (1.25, 1.5, 2.0, 3.0, 6.0, 20.0, 100.0)
    ratio_weights: tuple[float, ...] = (0.04, 0.06, 0.5, 0.15, 0.15, 0.06, 0.04)
    scales: tuple[float, ...] = (1.05, 1.1, 1.2, 1.4, 2.0, 4.0)
    tails: tuple[float, ...] = (0.02, 0.10)
    slower_weights: tuple[float, ...] = (0.1, 0.25, 0.25, 0.1, 0.05, 0.05, 0.1, 0.1)
    errors_weight: float = 0.7
    first_stake: float = 0.75


@dataclass(frozen=True)
class JudgePolicy:
    """How careful the judge is. Rates, margins and noise are fractions.

    `alpha` bounds the probability of ever rolling back a release that is not worse; `beta` that of promoting one that is worse by a
    margin: errors by `error_margin`, or answers slower than about blue's p95 by `slow_margin`, than about its median by `median_margin`.

    The evidence is against "green's error rate is at most `worst_ratio` times blue's". An effect is relevant when it is at least
    `relevant_odds`:1 that green errs more than `tolerated_ratio` times as often, and by `relevant_errors` more (unless the evidence is
    overwhelming); or when `relevant_slow` more of its answers are slower than some bound.

    `error_noise` and `latency_noise` are the standard deviations, from look to look, of the healthy log ratio of the colours' error rates
    and of the log ratio of their latency scales.
    """

    __pydantic_config__ = STRICT

    alpha: float = 0.01
    beta: float = 0.05
    error_margin: float = 0.005
    slow_margin: float = 0.02
    median_margin: float = 0.05
    least_requests: int = 500
    least_looks: int = 5
    warm_up_seconds: float = 60.0
    worst_ratio: float = 1.0
    tolerated_ratio: float = 1.1
    relevant_odds: float = 5.0
    relevant_errors: float = 0.0005
    relevant_slow: float = 0.01
    error_noise: float = 0.15
    latency_noise: float = 0.03
    sick_rate: float = 0.05
    memory_limit: float = 0.85
    leak_horizon_seconds: float = 86_400.0
    hold_when_both_breach: bool = True
    bets: Bets = Bets()


@dataclass(frozen=True)
class Context:
    """What is known before a canary: the planned looks and their length, the finite bounds of the latency buckets (seconds, rising), blue's
    shares per bucket (one more than bounds, the last is +Inf), and its measured noise.

    Without `promotion_enabled` the judge looks for reasons to go back only.
    """

    __pydantic_config__ = STRICT

    look_seconds: float
    looks_planned: int
    bounds: tuple[float, ...]
    base: tuple[float, ...]
    noise: Noise = QUIET
    promotion_enabled: bool = True

    def problems(self) -> tuple[str, ...]:
        """Everything that cannot be meant, as sentences `key: got …, expected …`."""
        found = []
        if not (isfinite(self.look_seconds) and self.look_seconds > 0):
            found.append(f"look_seconds: got {self.look_seconds:g}, expected more than 0")
        if self.looks_planned < 1:
            found.append(f"looks_planned: got {self.looks_planned}, expected 1 or more")
        rising = all(lower < higher for lower, higher in pairwise((0.0, *self.bounds)))
        if len(self.bounds) < 2 or not rising or not all(map(isfinite, self.bounds)):
            found.append(f"bounds: got {list(self.bounds)}, expected two or more finite seconds above 0, rising; +Inf is added by itself")
        if len(self.base) != len(self.bounds) + 1:
            found.append(f"base: got {len(self.base)} shares, expected {len(self.bounds) + 1}: one per bound and one for +Inf")
        if any(not 0 <= share <= 1 for share in self.base) or abs(sum(self.base) - 1) > 0.02:
            found.append(f"base: got shares that sum to {sum(self.base):.3g}, expected shares from 0 to 1 that sum to 1")
        return tuple(found)


@dataclass(frozen=True)
class Look:
    """One look; numbers begin at 1 and rise. `groups` compares parts: an endpoint with itself, a green replica with all of blue.

    `memory` is green's and blue's as shares of their limits. `breach` is what a hard or sustained trigger says of green, `blue_breaches`
    that the same one says it of blue. `lost`: the metrics could not be read; the counts are left aside, and come with the next look.
    """

    __pydantic_config__ = STRICT

    number: int
    seconds: float
    counts: Pair = NOTHING_SEEN
    groups: Mapping[str, Pair] = field(default_factory=dict)
    memory: tuple[float, float] | None = None
    breach: str | None = None
    blue_breaches: bool = False
    lost: bool = False


@dataclass(frozen=True)
class Compared:
    """Errors of one pair so far: the evidence against "not worse", that against "tolerably worse", the totals, and what waits for its
    other colour. `weight` is its share of the bet among groups.
    """

    __pydantic_config__ = STRICT

    worse: Capital = NOTHING_BET
    beyond: Capital = NOTHING_BET
    totals: Pair = NOTHING_SEEN
    waiting: Pair = NOTHING_SEEN
    weight: float = 1.0


@dataclass(frozen=True)
class State:
    """All that the judge remembers between two looks; plain data.

    `totals` of `errors` hold the buckets as well, without the warm-up. `not_worse` are log e-processes (errors, around p95, around the
    median), `shown` the largest that the smallest of them has ever been. `recent` are the last two looks, `memory` the last fifteen as
    (seconds, green, blue).
    """

    __pydantic_config__ = STRICT

    number: int = 0
    seconds: float = 0.0
    errors: Compared = Compared()
    groups: Mapping[str, Compared] = field(default_factory=dict)
    latency: Capital = NOTHING_BET
    not_worse: tuple[float, float, float] = (0.0, 0.0, 0.0)
    shown: float = 0.0
    warm_looks: int = 0
    recent: tuple[Pair, ...] = ()
    memory: tuple[tuple[float, float, float], ...] = ()
    final: Decision | None = None

    def slower(self, bounds: tuple[float, ...]) -> list[tuple[float, float, float, float]]:
        """For each bound: by how much more of green's answers are slower, the bound, green's share and blue's; empty before the warm-up
        is over.
        """
        totals = self.errors.totals
        if not totals.timed:
            return []
        found = []
        for number, bound in enumerate(bounds):
            (n_g, x_g), (n_b, x_b) = totals.green.slower(number), totals.blue.slower(number)
            found.append((x_g / n_g - x_b / n_b, bound, x_g / n_g, x_b / n_b))
        return found
