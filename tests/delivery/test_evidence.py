"""The e-values are checked against their definition: at most 1 on average under the null hypothesis, by summing over all outcomes."""

from collections.abc import Iterable
from itertools import pairwise, product
from math import comb, exp, lgamma, log, prod

import pytest
from hypothesis import assume, example, given
from hypothesis import strategies as st

from delivery.evidence import LARGEST, Capital, Slower, error_e_logs, not_worse_e_log, usual_shares

shares = st.floats(0.02, 0.98)
rates = st.floats(1e-4, 0.5)
RATIOS = (1.3, 2.0, 5.0, 100.0)
BOUNDS = (0.05, 0.1, 0.25, 1.0)
SLOWER = Slower(BOUNDS, (1.05, 1.2, 2.0, 4.0), (0.02, 0.10))


def binomial(n: int, p: float) -> list[float]:
    return [comb(n, x) * p**x * (1 - p) ** (n - x) for x in range(n + 1)]


def beta_binomial(n: int, a: float, b: float) -> list[float]:
    def log_beta(a: float, b: float) -> float:
        return lgamma(a) + lgamma(b) - lgamma(a + b)

    return [comb(n, x) * exp(log_beta(x + a, n - x + b) - log_beta(a, b)) for x in range(n + 1)]


@given(n_g=st.integers(1, 12), n_b=st.integers(1, 12), p_b=rates, better=st.floats(0, 1), worst=st.sampled_from([1.0, 1.1]))
def test_error_evidence_is_at_most_1_on_average_when_green_is_not_worse(n_g: int, n_b: int, p_b: float, better: float, worst: float):
    """Unconditionally, for any sizes, rates and imbalance."""
    p_g = min(worst * p_b * better, 1.0)
    means = [0.0] * len(RATIOS)
    for (x_g, at_g), (x_b, at_b) in product(enumerate(binomial(n_g, p_g)), enumerate(binomial(n_b, p_b))):
        logs = error_e_logs(x_g, x_b, share=n_g / (n_g + n_b), ratios=RATIOS, worst=worst, noise=0.0, clump=1.0)
        means = [mean + at_g * at_b * exp(e) for mean, e in zip(means, logs, strict=True)]
    assert max(means) <= 1 + 1e-9


@given(errors=st.integers(0, 40), share=shares, noise=st.floats(0.02, 0.5), worst=st.sampled_from([1.0, 1.1]))
def test_robust_error_evidence_is_exactly_1_on_average_over_the_noisy_null(errors: int, share: float, noise: float, worst: float):
    theta = share * worst / (1 - share + share * worst)
    size = 1 / (noise**2 * share * (1 - share)) - 1
    chances = beta_binomial(errors, theta * size, (1 - theta) * size)
    for number in range(len(RATIOS)):
        logs = (error_e_logs(x, errors - x, share=share, ratios=RATIOS, worst=worst, noise=noise, clump=1.0) for x in range(errors + 1))
        assert sum(at * exp(e[number]) for at, e in zip(chances, logs, strict=True)) == pytest.approx(1, rel=1e-6)


@given(x_g=st.integers(0, 50), x_b=st.integers(0, 50), share=shares)
def test_without_noise_the_robust_form_becomes_the_exact_one(x_g: int, x_b: int, share: float):
    exact, nearly = (error_e_logs(x_g, x_b, share=share, ratios=RATIOS, worst=1.0, noise=noise, clump=1.0) for noise in (0.0, 1e-4))
    assert nearly == pytest.approx(exact, rel=1e-3, abs=1e-2)
    by_hand = [x_g * log(ratio) - (x_g + x_b) * log(1 + share * (ratio - 1)) for ratio in RATIOS]
    assert exact == pytest.approx(by_hand, abs=1e-9)


def test_noise_bounds_what_a_single_look_can_say():
    one_look = error_e_logs(20_000, 10_000, share=0.5, ratios=(2.0,), worst=1.1, noise=0.15, clump=1.0)
    exact = error_e_logs(20_000, 10_000, share=0.5, ratios=(2.0,), worst=1.1, noise=0.0, clump=1.0)
    assert 3 < one_look[0] < 30 < exact[0]


def test_clumps_divide_the_evidence():
    alone, clumped = (error_e_logs(9, 3, share=0.5, ratios=RATIOS, worst=1.0, noise=0.0, clump=clump) for clump in (1.0, 3.0))
    assert [e / 3 for e in alone] == pytest.approx(clumped)


def histograms(total: int, buckets: int) -> Iterable[tuple[int, ...]]:
    if buckets == 1:
        yield (total,)
        return
    for first in range(total + 1):
        for rest in histograms(total - first, buckets - 1):
            yield (first, *rest)


def chance(counts: tuple[int, ...], p: list[float]) -> float:
    ways, left = 1, sum(counts)
    for count in counts:
        ways *= comb(left, count)
        left -= count
    return ways * prod(share**count for share, count in zip(p, counts, strict=True))


def normalised(parts: list[float]) -> list[float]:
    return [part / sum(parts) for part in parts]


distributions = st.lists(st.floats(0.01, 1), min_size=5, max_size=5).map(normalised)


@given(n_g=st.integers(1, 4), n_b=st.integers(1, 4), true=distributions, believed=distributions, faster=st.floats(0, 0.9))
def test_latency_evidence_is_at_most_1_on_average_when_green_is_not_slower(
    n_g: int, n_b: int, true: list[float], believed: list[float], faster: float
):
    """Whatever blue's histogram is and however wrong the belief about it; also for a green that is faster."""
    green_true = [share * (1 - faster) for share in true]
    green_true[0] += faster
    usual = usual_shares(believed, [0] * 5)
    means = [0.0] * 6
    for green, blue in product(histograms(n_g, 5), histograms(n_b, 5)):
        at = chance(green, green_true) * chance(blue, true)
        means = [mean + at * exp(e) for mean, e in zip(means, SLOWER.e_logs(green, blue, usual, noise=0.0), strict=True)]
    assert max(means) <= 1 + 1e-9


def test_latency_evidence_needs_both_colours():
    usual = usual_shares((0.2,) * 5, (0,) * 5)
    assert SLOWER.e_logs((1, 2, 3, 4, 5), (0,) * 5, usual, noise=0.0) == [0.0] * 6
    assert SLOWER.e_logs((0,) * 5, (1, 2, 3, 4, 5), usual, noise=0.0) == [0.0] * 6


def test_latency_evidence_knows_slower_from_faster():
    usual = usual_shares((0.2, 0.3, 0.3, 0.15, 0.05), (0,) * 5)
    blue, slower = (200, 300, 300, 150, 50), (100, 250, 350, 220, 80)
    assert max(SLOWER.e_logs(slower, blue, usual, noise=0.0)) > 10
    assert max(SLOWER.e_logs(blue, slower, usual, noise=0.0)) < 0
    assert 0 < max(SLOWER.e_logs(slower, blue, usual, noise=0.1)) < max(SLOWER.e_logs(slower, blue, usual, noise=0.0))


def by_hand(green: list[int], blue: list[int], b: list[float], noise: float) -> list[float]:
    """The formulas of the source, written as they stand there."""
    finite = len(BOUNDS)
    cumulative = [min(max(sum(b[: k + 1]), 1e-7), 1 - 1e-7) for k in range(finite)]
    logits, logs = [log(f / (1 - f)) for f in cumulative], [log(t) for t in BOUNDS]

    def stretched(scale: float) -> list[float]:
        found = []
        for t in BOUNDS:
            x = log(t / scale)
            k = next((k for k in range(finite - 2) if x < logs[k + 1]), finite - 2)
            found.append(logits[k] + (x - logs[k]) / (logs[k + 1] - logs[k]) * (logits[k + 1] - logits[k]))
        edges = [0.0, *(1 / (1 + exp(-logit)) for logit in found), 1.0]
        return [max(upper - lower, 1e-9) for lower, upper in pairwise(edges)]

    tails = [[(1 - q) * usual + q * slow for usual, slow in zip(b, stretched(4.0), strict=True)] for q in (0.02, 0.10)]
    n_g, n_b = sum(green), sum(blue)
    pi = n_g / (n_g + n_b)
    slopes = [(cell - usual) / log(1.02) for cell, usual in zip(stretched(1.02), b, strict=True)]
    information = n_g * n_b / (n_g + n_b) * sum(slope**2 / usual for slope, usual in zip(slopes, b, strict=True))
    found = []
    for a in [*(stretched(scale) for scale in (1.05, 1.2, 2.0, 4.0)), *tails]:
        ratios = [max(a[j] / b[j] for j in range(k + 1)) for k in range(len(b))]
        total = sum(usual * ratio for usual, ratio in zip(b, ratios, strict=True))
        slower = [usual * ratio / total for usual, ratio in zip(b, ratios, strict=True)]
        mixed = [pi * s + (1 - pi) * usual for s, usual in zip(slower, b, strict=True)]
        e = sum(g * log(s / m) + h * log(usual / m) for g, h, s, usual, m in zip(green, blue, slower, b, mixed, strict=True))
        found.append(e / (1 + noise**2 * information))
    return found


histogram = st.lists(st.integers(0, 500), min_size=5, max_size=5).filter(any)


@given(green=histogram, blue=histogram, b=distributions, noise=st.sampled_from([0.0, 0.03]))
def test_latency_evidence_is_what_the_formulas_say(green: list[int], blue: list[int], b: list[float], noise: float):
    assert SLOWER.e_logs(green, blue, b, noise=noise) == pytest.approx(by_hand(green, blue, b, noise), rel=1e-6, abs=1e-6)


@given(base=distributions, earlier=st.lists(st.integers(0, 10**6), min_size=5, max_size=5))
def test_blues_usual_shares_are_a_distribution_without_an_impossible_bucket(base: list[float], earlier: list[int]):
    usual = usual_shares(base, earlier)
    assert sum(usual) == pytest.approx(1)
    assert min(usual) > 0


@given(
    n_g=st.integers(1, 12),
    n_b=st.integers(1, 12),
    p_b=rates,
    worse=st.floats(0, 0.2),
    margin=st.floats(0.005, 0.1),
    usual=st.floats(0, 0.6),
)
def test_the_margin_evidence_is_at_most_1_on_average_when_green_is_worse_by_it(
    n_g: int, n_b: int, p_b: float, worse: float, margin: float, usual: float
):
    p_g = p_b + margin + worse
    assume(p_g <= 1)
    mean = 0.0
    for (x_g, at_g), (x_b, at_b) in product(enumerate(binomial(n_g, p_g)), enumerate(binomial(n_b, p_b))):
        mean += at_g * at_b * exp(not_worse_e_log((n_g, x_g), (n_b, x_b), margin=margin, usual=usual))
    assert mean <= 1 + 1e-9


def projected_by_halving(n_g: int, n_b: int, q: float, margin: float) -> float:
    low, high = 1e-12, min(q, 1 - margin - 1e-9)
    for _ in range(60):
        b = (low + high) / 2
        g = b + margin
        if n_g * (q - g) / (g * (1 - g)) + n_b * (q - b) / (b * (1 - b)) > 0:
            low = b
        else:
            high = b
    return (low + high) / 2


@given(n_g=st.integers(1, 10**6), n_b=st.integers(1, 10**6), q=st.floats(1e-6, 0.9), margin=st.sampled_from([0.005, 0.02, 0.05]))
@example(n_g=1, n_b=10**6, q=1e-6, margin=0.05)
@example(n_g=10**6, n_b=1, q=1e-6, margin=0.05)
def test_the_projection_on_the_margin_is_the_root_that_halving_finds(n_g: int, n_b: int, q: float, margin: float):
    theta_b = projected_by_halving(n_g, n_b, q, margin)
    theta_g = theta_b + margin
    no_events = n_g * log((1 - q) / (1 - theta_g)) + n_b * log((1 - q) / (1 - theta_b))
    assert not_worse_e_log((n_g, 0), (n_b, 0), margin=margin, usual=q) == pytest.approx(no_events, rel=1e-6, abs=1e-6)
    one = log(q / theta_b) - log((1 - q) / (1 - theta_b))
    assert not_worse_e_log((n_g, 0), (n_b, 1), margin=margin, usual=q) == pytest.approx(no_events + one, rel=1e-6, abs=1e-5)


@given(st.lists(st.lists(st.floats(0.0, 0.999), min_size=2, max_size=2), max_size=20), st.floats(0, 1), st.floats(0, 0.2))
def test_money_is_neither_made_nor_lost_by_starting_bets_later(looks: list[list[float]], first: float, later: float):
    """With two alternatives whose e-values average 1 over two equally likely outcomes, so does the whole after any number of looks."""
    heads = tails = Capital()
    for number, (a, b) in enumerate(looks):
        stake = first if not number else later
        before = heads.total
        ups, downs = [log(1 + a), log(1 + b)], [log(1 - a), log(1 - b)]
        won, lost = heads.grown(ups, (0.5, 0.5), stake), heads.grown(downs, (0.5, 0.5), stake)
        assert (won.total + lost.total) / 2 == pytest.approx(before)
        heads, tails = won, tails.grown(downs, (0.5, 0.5), stake)
    assert 0 <= tails.total <= 1 + 1e-9


def test_evidence_stops_growing_before_it_leaves_the_floats():
    capital = Capital()
    for _ in range(10):
        capital = capital.grown([1e6, 500.0], (0.5, 0.5), 0.5)
    assert capital.total == LARGEST
    assert Capital().grown([-1e6], (1.0,), 0.5).total == 0.5
