"""What other judges would have said of the same canaries: Kayenta's Mann-Whitney judge and Flagger's counter, re-implemented.

Sources: spinnaker/kayenta (NetflixACAJudge-v1.0), with order statistics instead of its root finder, and fluxcd/flagger. A sample is a
minute, as both are commonly configured. Each function returns the look of the alarm per canary, infinite where there was none.
"""

from math import ceil, inf, sqrt
from statistics import NormalDist

import numpy as np

from bench.canaries import BOUNDS, Canaries, Numbers

CONFIDENCE, TOLERANCE = 0.98, 0.25  # constants in Kayenta's code
FIRST_PEEK = 5
FLAGGER_FAILURES = 5


def quantile_ms(histograms: Numbers, share: float) -> Numbers:
    """As Prometheus' histogram_quantile: linear within the bucket, the highest finite bound for +Inf. The last axis is the buckets."""
    edges = 1000 * np.array([0.0, *BOUNDS])
    upto = np.cumsum(histograms, axis=-1)
    rank = share * upto[..., -1]
    bucket = (upto >= rank[..., None]).argmax(axis=-1)
    last = len(BOUNDS)
    inside = np.minimum(bucket, last - 1)
    count = np.take_along_axis(histograms, inside[..., None], -1)[..., 0]
    before = np.take_along_axis(upto, inside[..., None], -1)[..., 0] - count
    found = edges[inside] + (edges[inside + 1] - edges[inside]) * (rank - before) / np.maximum(count, 1)
    return np.asarray(np.where(bucket == last, edges[-1], found))


def _samples(canaries: Canaries) -> list[tuple[Numbers, Numbers]]:
    """Error percentage and p95 per minute, green and blue."""
    errors = (100 * canaries.x_g / canaries.n_g, 100 * canaries.x_b / canaries.n_b)
    return [errors, (quantile_ms(canaries.h_g, 0.95), quantile_ms(canaries.h_b, 0.95))]


def _high(green: Numbers, blue: Numbers) -> Numbers:
    """Which canaries (first axis) have a metric that Kayenta calls High on these minutes (second axis)."""
    n = green.shape[1]
    pairs = np.sort((green[:, :, None] - blue[:, None, :]).reshape(len(green), n * n), axis=1)
    middle = np.median(pairs, axis=1)
    z = NormalDist().inv_cdf((1 + CONFIDENCE) / 2)
    found = []
    for canary, differences in enumerate(pairs):
        # Shifted against one another, as at the bound of the interval, only ties within a colour are left.
        ties = np.concatenate([np.unique(colour[canary], return_counts=True)[1] for colour in (green, blue)])
        sigma = sqrt(n * n / 12 * ((2 * n + 1) - float(np.sum(ties**3.0 - ties)) / (2 * n * (2 * n - 1))))
        lower = differences[max(n * n - ceil(n * n / 2 + 0.5 + z * sigma), 0)]
        same = np.array_equal(green[canary], blue[canary])
        found.append(not same and lower > TOLERANCE * abs(middle[canary]))
    return np.asarray(np.array(found) & (green.mean(axis=1) >= blue.mean(axis=1)))


def kayenta_at(canaries: Canaries, look: int) -> Numbers:
    """Judged once, after so many minutes."""
    high = np.any([_high(green[:, :look], blue[:, :look]) for green, blue in _samples(canaries)], axis=0)
    return np.asarray(np.where(high, float(look), inf))


def kayenta_peeking(canaries: Canaries) -> Numbers:
    """Judged each minute from the fifth on, with the first High as the alarm."""
    found = np.full(len(canaries.n_g), inf)
    samples = _samples(canaries)
    for look in range(FIRST_PEEK, canaries.n_g.shape[1] + 1):
        asked = np.flatnonzero(np.isinf(found))
        if not len(asked):
            break
        high = np.any([_high(green[asked, :look], blue[asked, :look]) for green, blue in samples], axis=0)
        found[asked[high]] = look
    return found


def flagger(canaries: Canaries) -> Numbers:
    """Success below 99 %, p99 above 500 ms or no traffic in a minute is a failed check; the fifth, in a row or not, is the alarm."""
    empty = canaries.n_g == 0
    failed = empty | (canaries.x_g > 0.01 * canaries.n_g) | (quantile_ms(canaries.h_g, 0.99) > 500)
    reached = np.cumsum(failed, axis=1) >= FLAGGER_FAILURES
    return np.asarray(np.where(reached.any(axis=1), reached.argmax(axis=1) + 1.0, inf))
