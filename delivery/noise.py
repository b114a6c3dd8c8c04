"""How noisy two halves of the very same release are: what the judge must not take for a regression."""

from collections.abc import Sequence
from dataclasses import dataclass
from math import log, sqrt
from statistics import NormalDist

from delivery.application import STRICT

ENOUGH_LOOKS = 60
ENOUGH_ERRORS = 20
LEAST_NOISE = 0.05


@dataclass(frozen=True)
class Halves:
    """One look at two halves of blue's replicas (an A/A comparison): requests `n` and errors `x` of each."""

    __pydantic_config__ = STRICT

    n_1: int
    n_2: int
    x_1: int
    x_2: int


@dataclass(frozen=True)
class Noise:
    """`clump`: by how much more the errors of one colour vary than independent ones would (1: they do not), for instance since one
    client tries ten times. `ratio`: the standard deviation of the healthy log ratio of the error rates from look to look; None: not known.
    """

    __pydantic_config__ = STRICT

    clump: float = 1.0
    ratio: float | None = None


QUIET = Noise()


def measured_noise(looks: Sequence[Halves]) -> Noise:
    """What an A/A comparison before the canary tells, over sixty looks or more for the noise of the ratio.

    Source: the dispersion of quasi-likelihood, Pearson's X2 = sum (x1 - m p)^2 / (m p (1-p)) over the K looks with m = x1 + x2 > 0 errors
    and p = n1/(n1+n2). The clump factor is 1 unless X2 exceeds the 95 % point of chi-squared with K degrees of freedom, else
    1.25 max(1, X2/K). Where no clumps are found and both halves had at least twenty errors in each look, the noise is the upper 90 %
    bound of var(log ratio) - 1/x1 - 1/x2. Over-dispersion is paid for once: with a clump factor the ratio's noise stays unknown.
    """
    terms = []
    for look in looks:
        errors, requests = look.x_1 + look.x_2, look.n_1 + look.n_2
        if errors and look.n_1 and look.n_2:
            share = look.n_1 / requests
            terms.append((look.x_1 - errors * share) ** 2 / (errors * share * (1 - share)))
    if not terms:
        return QUIET
    if sum(terms) > chi_squared_quantile(0.95, len(terms)):
        return Noise(clump=1.25 * max(1.0, sum(terms) / len(terms)))
    if len(looks) < ENOUGH_LOOKS or any(min(look.x_1, look.x_2) < ENOUGH_ERRORS for look in looks):
        return QUIET
    ratios = [log(look.x_1 / look.n_1) - log(look.x_2 / look.n_2) for look in looks]
    mean = sum(ratios) / len(ratios)
    squares = sum((ratio - mean) ** 2 for ratio in ratios)
    counting = sum(1 / look.x_1 + 1 / look.x_2 for look in looks) / len(looks)
    upper = squares / chi_squared_quantile(0.10, len(ratios) - 1)
    return Noise(ratio=max(sqrt(max(0.0, upper - counting)), LEAST_NOISE))


def chi_squared_quantile(share: float, freedom: int) -> float:
    """Source: Wilson and Hilferty 1931; within 1 % for the degrees of freedom met here."""
    part = 2 / (9 * freedom)
    return float(freedom * (1 - part + NormalDist().inv_cdf(share) * sqrt(part)) ** 3)
