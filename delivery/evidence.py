"""Evidence that stays valid at any look: e-processes for error counts, latency histograms and "not worse by a margin".

An e-process starts at 1 and, while its null hypothesis holds, is at most 1 on average at every moment, whenever one looks. Ville's
inequality then bounds the probability that it ever reaches 1/alpha by alpha. Counts of one look are conditioned on their total (Lindon
and Malek, "Anytime-valid inference for multinomial count data", NeurIPS 2022), so what hits both colours alike is no evidence.

Colours: green is the candidate, blue the live release. One look is one scrape interval of any length. Logarithms are natural.
"""

from bisect import bisect_right
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import accumulate, repeat
from math import exp, lgamma, log

from delivery.application import STRICT

LARGEST = 1e300  # of what a float holds; an e-process stops growing there, which changes no decision
LARGEST_LOG = log(LARGEST)
SMALLEST_SHARE = 1e-9  # of a bucket
CLIPPED = 1e-7  # cumulative shares are kept so far from 0 and 1


@dataclass(frozen=True)
class Counts:
    """What one colour answered during some time: requests, those that were errors, and those in each latency bucket.

    `buckets` are not cumulative and the last one is +Inf; empty when latency was not measured.
    """

    __pydantic_config__ = STRICT

    requests: int = 0
    errors: int = 0
    buckets: tuple[int, ...] = ()

    def __add__(self, other: "Counts") -> "Counts":
        if not self.buckets or not other.buckets:
            buckets = self.buckets or other.buckets
        else:
            buckets = tuple(map(sum, zip(self.buckets, other.buckets, strict=True)))
        return Counts(self.requests + other.requests, self.errors + other.errors, buckets)

    @property
    def error_rate(self) -> float:
        return self.errors / self.requests if self.requests else 0.0

    def without_buckets(self) -> "Counts":
        return Counts(self.requests, self.errors) if self.buckets else self

    def slower(self, number: int) -> tuple[int, int]:
        """(answers, those slower than the bound of this number)."""
        return sum(self.buckets), sum(self.buckets[number + 1 :])


@dataclass(frozen=True)
class Pair:
    """The same look of both colours."""

    __pydantic_config__ = STRICT

    green: Counts = Counts()
    blue: Counts = Counts()

    def __add__(self, other: "Pair") -> "Pair":
        return Pair(self.green + other.green, self.blue + other.blue)

    @property
    def comparable(self) -> bool:
        """Nothing can be compared before both colours have answered."""
        return self.green.requests > 0 and self.blue.requests > 0

    @property
    def timed(self) -> bool:
        """Latency can be compared."""
        return any(self.green.buckets) and any(self.blue.buckets)

    @property
    def requests(self) -> int:
        return self.green.requests + self.blue.requests

    def without_buckets(self) -> "Pair":
        return Pair(self.green.without_buckets(), self.blue.without_buckets())


NOTHING_SEEN = Pair()


@dataclass(frozen=True)
class Capital:
    """An e-process as money: a mixture of bets, one per alternative, and what is kept for bets that start at a later look.

    At each look a part of `reserve` is put on the alternatives by their weights, then each bet is multiplied by the look's e-value.
    Without later starts a regression that begins at look 20 must first pay back 20 healthy looks.
    """

    __pydantic_config__ = STRICT

    bets: tuple[float, ...] = ()
    reserve: float = 1.0

    @property
    def total(self) -> float:
        return min(sum(self.bets) + self.reserve, LARGEST)

    def grown(self, e_logs: Sequence[float], weights: Sequence[float], stake: float) -> "Capital":
        """One look later. `e_logs` and `weights` have one entry per alternative; `stake` is what leaves the reserve before the look."""
        stake = min(stake, self.reserve)
        bets = self.bets or repeat(0.0)
        return Capital(
            tuple(
                [
                    min((bet + weight * stake) * exp(min(e, LARGEST_LOG)), LARGEST)
                    for bet, weight, e in zip(bets, weights, e_logs, strict=False)
                ]
            ),
            self.reserve - stake,
        )


NOTHING_BET = Capital()


def error_e_logs(
    green_errors: int, blue_errors: int, *, share: float, ratios: Sequence[float], worst: float, noise: float, clump: float
) -> list[float]:
    """The log e-value of one look against H0 "green's error rate is at most `worst` times blue's", for each alternative ratio.

    `share` is green's observed share of the look's requests, between 0 and 1 exclusively: never the configured weight. `ratios` are true
    ratios of the rates, each above `worst`. `noise` is the standard deviation of the healthy log ratio from look to look
    (over-dispersion; 0 is exactly binomial); `clump` divides the logs when errors come in clumps (1: they do not).

    Source: Lindon and Malek 2022. Given m errors in all, green's are Binomial(m, theta(r)) with theta(r) = share r / (1 - share + share r)
    for a ratio r of the rates; with noise BetaBinomial(m, theta s, (1 - theta) s), s = 1 / (noise^2 share (1 - share)) - 1. The e-value is
    the likelihood ratio of theta(ratio) to theta(worst).

    Why it holds for binomial errors without conditioning: with A = theta1/theta0 and B = (1-theta1)/(1-theta0), E[e] =
    (1 + p_g (A-1))^n_g (1 + p_b (B-1))^n_b <= exp(p_b (n_g worst (A-1) + n_b (B-1))) = 1, since theta0 A + (1-theta0) B = 1.
    """
    if not green_errors + blue_errors:
        return [0.0] * len(ratios)
    other = 1.0 - share
    theta0 = share * worst / (other + share * worst)
    thetas = [share * ratio / (other + share * ratio) for ratio in ratios]
    if not noise:
        return [(green_errors * log(theta / theta0) + blue_errors * log((1.0 - theta) / (1.0 - theta0))) / clump for theta in thetas]
    size = 1.0 / (noise * noise * share * other) - 1.0
    # Terms in the number of errors and in the size alone are the same for both hypotheses.
    a, b = theta0 * size, size - theta0 * size
    null = lgamma(green_errors + a) - lgamma(a) + lgamma(blue_errors + b) - lgamma(b)
    found = []
    for theta in thetas:
        a = theta * size
        b = size - a
        found.append((lgamma(green_errors + a) - lgamma(a) + lgamma(blue_errors + b) - lgamma(b) - null) / clump)
    return found


class Slower:
    """The latency alternatives over fixed bucket bounds (seconds, rising): everything slower by a factor, or a share of the requests
    slower by the factor `tail`.

    The logit of the cumulative share is linear in log time between bounds, the outermost segments extended.
    """

    def __init__(self, bounds: Sequence[float], scales: Sequence[float], tails: Sequence[float], *, tail: float = 4.0) -> None:
        self._logs = [log(bound) for bound in bounds]
        self._shifts = [self._shifted(scale) for scale in scales]
        self._tails = tuple(tails)
        self._tail = scales.index(tail)
        self._slightly = self._shifted(1.02)

    def _shifted(self, scale: float) -> list[tuple[int, float]]:
        """For each bound, the segment in which bound/scale lies and how far along it, as a fraction (beyond 0 and 1 when outside)."""
        logs, found = self._logs, []
        for at in logs:
            wanted = at - log(scale)
            segment = min(max(bisect_right(logs, wanted) - 1, 0), len(logs) - 2)
            found.append((segment, (wanted - logs[segment]) / (logs[segment + 1] - logs[segment])))
        return found

    def e_logs(self, green: Sequence[int], blue: Sequence[int], usual: Sequence[float], *, noise: float) -> list[float]:
        """The log e-value of one look against H0 "green is not stochastically slower than blue", for each alternative.

        `green` and `blue` are counts per bucket, `usual` blue's shares known before this look (all above 0, sum 1). `noise` is the
        standard deviation of the healthy log scale between colours from look to look. A wrong `usual` costs power, never validity.

        It is the sum of h_g log(a/m) + h_b log(b/m), m = share a + (1 - share) b, where a/b never falls from one bucket to the next,
        divided by 1 + noise^2 I, where I is the look's information about the log scale. Why it holds: under any common shares,
        A = E[a/m] and B = E[b/m] give share A + (1 - share) B = 1, so that A^n_g B^n_b <= 1 (weighted AM-GM); with a/m and b/m monotone
        it is no more for a green that is faster.
        """
        green_total, blue_total = sum(green), sum(blue)
        if not green_total or not blue_total:
            return [0.0] * (len(self._shifts) + len(self._tails))
        share = green_total / (green_total + blue_total)
        logits = []
        below = 0.0
        for part in usual[:-1]:
            below += part
            clipped = min(max(below, CLIPPED), 1.0 - CLIPPED)
            logits.append(log(clipped / (1.0 - clipped)))
        likely = [_likelier(_cells(logits, shift), usual) for shift in self._shifts]
        tail = _cells(logits, self._shifts[self._tail])
        likely += [_likelier([(1.0 - moved) * b + moved * a for a, b in zip(tail, usual, strict=True)], usual) for moved in self._tails]
        other = 1.0 - share
        seen = [(g, g + b, number) for number, (g, b) in enumerate(zip(green, blue, strict=True)) if g or b]
        damping = 1.0
        if noise:
            slopes = [(a - b) / _LOG_SLIGHTLY for a, b in zip(_cells(logits, self._slightly), usual, strict=True)]
            information = sum(slope * slope / b for slope, b in zip(slopes, usual, strict=True))
            damping += noise * noise * information * green_total * blue_total / (green_total + blue_total)
        found = []
        for ratio in likely:
            e = 0.0
            for g, both, number in seen:
                r = ratio[number]
                # log(a/m) = log r - log(m/b), log(b/m) = -log(m/b), with r = a/b and m/b = share r + 1 - share
                e += g * log(r) - both * log(share * r + other)
            found.append(e / damping)
        return found


_LOG_SLIGHTLY = log(1.02)


def _cells(logits: Sequence[float], shift: Sequence[tuple[int, float]]) -> list[float]:
    """Shares per bucket of a distribution whose cumulative logits at the bounds are `logits`, with time stretched by a shift."""
    found, below = [], 0.0
    for segment, along in shift:
        left = logits[segment]
        logit = left + along * (logits[segment + 1] - left)
        until = 1.0 / (1.0 + exp(-logit)) if logit > -700.0 else 0.0
        found.append(max(until - below, SMALLEST_SHARE))
        below = until
    found.append(max(1.0 - below, SMALLEST_SHARE))
    return found


def _likelier(slower: Sequence[float], usual: Sequence[float]) -> list[float]:
    """Ratios of the alternative to the usual share per bucket, forced never to fall, for an alternative that sums to 1."""
    ratios = list(accumulate([a / b for a, b in zip(slower, usual, strict=True)], max))
    total = sum([b * ratio for b, ratio in zip(usual, ratios, strict=True)])
    return [ratio / total for ratio in ratios]


def usual_shares(base: Sequence[float], earlier: Sequence[int], *, weight: float = 2000.0) -> list[float]:
    """Blue's shares per bucket as known before a look: its histogram before the canary, worth `weight` requests, and its earlier looks.

    A thousandth is spread evenly, so that no bucket is impossible.
    """
    even = 0.001 / len(base)
    counts = [count + weight * (0.999 * share + even) for count, share in zip(earlier, base, strict=True)]
    total = sum(counts)
    return [count / total for count in counts]


def not_worse_e_log(green: tuple[int, int], blue: tuple[int, int], *, margin: float, usual: float) -> float:
    """The log e-value of one look against H0 "green's share of events exceeds blue's by at least `margin`".

    `green` and `blue` are (requests, events); `usual` is the share of events in both colours as known before the look, clipped here to
    [1e-6, 1 - margin - 1e-6]. Valid for looks of any size.

    Source: the point (usual, usual) is projected on the line theta_g = theta_b + margin (reverse information projection, Grunwald,
    de Heide and Koolen, "Safe testing", 2024; the equation is that of Farrington and Manning 1990), and the look's likelihood at the
    point is compared with that at the projection.
    """
    (n_g, x_g), (n_b, x_b) = green, blue
    q = min(max(usual, 1e-6), 1.0 - margin - 1e-6)
    theta_b = _projected(n_g, n_b, q, margin)
    theta_g = theta_b + margin
    return (
        x_g * log(q / theta_g)
        + (n_g - x_g) * log((1.0 - q) / (1.0 - theta_g))
        + x_b * log(q / theta_b)
        + (n_b - x_b) * log((1.0 - q) / (1.0 - theta_b))
    )


def _projected(n_g: int, n_b: int, q: float, margin: float) -> float:
    """The root theta_b of n_g (q-g)/(g(1-g)) + n_b (q-b)/(b(1-b)), g = b + margin, which falls in b: Newton's steps, kept in a bracket."""
    low, high = 1e-12, min(q, 1.0 - margin - 1e-9)
    b = max(q - margin * n_g / (n_g + n_b), q / 8)
    for _ in range(60):
        g = b + margin
        vg, vb = g * (1.0 - g), b * (1.0 - b)
        value = n_g * (q - g) / vg + n_b * (q - b) / vb
        if value > 0:
            low = b
        else:
            high = b
        slope = -n_g * (vg + (q - g) * (1.0 - 2.0 * g)) / (vg * vg) - n_b * (vb + (q - b) * (1.0 - 2.0 * b)) / (vb * vb)
        step = b - value / slope if slope else low
        if not low < step < high:
            step = 0.5 * (low + high)
        if abs(step - b) <= 1e-13 * b:
            return step
        b = step
    return b
