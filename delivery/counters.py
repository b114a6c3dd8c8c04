"""From the counters of replicas to the counts of a look: what grew between two scrapes, told per replica before anything is summed."""

import math
from collections.abc import Iterable, Mapping

from delivery.evidence import Counts
from delivery.health import Counters


def growth(before: Counters, now: Counters) -> Counters | None:
    """What one replica's counters grew by; None when some of them fell and others did not, since nobody knows what that means.

    When all fell together the replica started anew, and what it counts now is the growth since then.
    """
    fell = [now.by_code.get(code, 0.0) < count for code, count in before.by_code.items() if count > 0]
    fell += [now.buckets.get(bound, 0.0) < count for bound, count in before.buckets.items() if count > 0]
    if any(fell):
        return now if all(fell) else None
    return now.since(before)


def grown(before: Mapping[str, Counters], now: Mapping[str, Counters]) -> tuple[Counters, dict[str, Counters]]:
    """The growth of one colour over all its replicas, by name, and what the next scrape is compared with.

    A replica that could not be scraped is remembered, so that its next scrape contains what was missed. One that is seen for the first
    time only gives its starting point. One whose counters contradict themselves is left out of this look.
    """
    parts = [growth(before[name], counters) for name, counters in now.items() if name in before]
    return Counters.sum(part for part in parts if part is not None), {**before, **now}


def counts(growths: Counters, bounds: Iterable[float]) -> Counts:
    """The growth of one colour as the counts of a look, in the buckets between these finite bounds (seconds), which it must have."""
    cumulative = [round(growths.buckets.get(bound, 0.0)) for bound in (*bounds, math.inf)]
    # Scrapes are not atomic: a bucket may have fell a request that the one above it has not yet.
    rising = [max(cumulative[: number + 1]) for number in range(len(cumulative))]
    buckets = tuple(upto - below for below, upto in zip([0, *rising], rising, strict=False))
    return Counts(round(growths.requests), round(growths.errors), buckets)


def shares(seen: Counts) -> tuple[float, ...]:
    """The share of answers in each bucket, which sum to 1: what a canary's context wants to know of blue. Even when there were none."""
    total = sum(seen.buckets)
    return tuple(count / total if total else 1 / len(seen.buckets) for count in seen.buckets)


def common_bounds(*colours: Counters) -> tuple[float, ...]:
    """The finite bucket bounds that all have, rising; those of one only melt into their neighbours."""
    shared = set.intersection(*(set(counters.buckets) for counters in colours))
    return tuple(sorted(bound for bound in shared if math.isfinite(bound)))
