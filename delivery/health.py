"""Being well or sick as values; only being broken is an exception."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field

from delivery.application import STRICT

LONGEST_LINE = 10_000  # characters of a log line that are looked at


def says_any(line: str, patterns: Iterable[str]) -> bool:
    """Does the line, as far as it is looked at, contain one of these texts? They are plain texts and no expressions, so that the time is
    linear in the line whatever they say: nothing that an application prints, or an environment asks for, can hold up a watch.
    """
    looked_at = line[:LONGEST_LINE]
    return any(pattern in looked_at for pattern in patterns)


@dataclass(frozen=True)
class ProbeResult:
    """One question to one running thing. `detail` is a full sentence when it is not well."""

    __pydantic_config__ = STRICT

    name: str
    well: bool
    detail: str = ""


@dataclass(frozen=True)
class HealthReport:
    """How one release is doing: probe results, and the fullest replica's use of its resources as shares of the limit (None: not known)."""

    __pydantic_config__ = STRICT

    results: tuple[ProbeResult, ...]
    cpu: float | None = None
    memory: float | None = None
    restarts: int = 0
    log_matches: tuple[str, ...] = ()

    @property
    def well(self) -> bool:
        return bool(self.results) and all(result.well for result in self.results)

    def sentence(self) -> str:
        if not self.results:
            return "Nothing answered: there is no replica to ask."
        sick = [f"{result.name}: {result.detail}" for result in self.results if not result.well]
        return "; ".join(sick) if sick else f"{len(self.results)} probes are well."


@dataclass(frozen=True)
class Counters:
    """Requests of one release since its counters began, as its traffic layer counted them.

    `by_code` maps an HTTP status to a count; `buckets` maps an upper bound in seconds to a cumulative count (the last one is +Inf);
    a client that left early (499) is not in `by_code`. `parts` are the same counters for each part of the release that is counted by
    itself (its services), by name.
    """

    by_code: Mapping[int, float] = field(default_factory=dict)
    buckets: Mapping[float, float] = field(default_factory=dict)
    parts: Mapping[str, "Counters"] = field(default_factory=dict)

    @classmethod
    def sum(cls, counters: Iterable["Counters"]) -> "Counters":
        """Of several sources, or of several growths one after the other."""
        codes: dict[int, float] = {}
        buckets: dict[float, float] = {}
        parts: dict[str, list[Counters]] = {}
        for one in counters:
            for code, count in one.by_code.items():
                codes[code] = codes.get(code, 0.0) + count
            for bound, count in one.buckets.items():
                buckets[bound] = buckets.get(bound, 0.0) + count
            for name, part in one.parts.items():
                parts.setdefault(name, []).append(part)
        return cls(codes, buckets, {name: cls.sum(found) for name, found in parts.items()})

    @property
    def requests(self) -> float:
        return sum(self.by_code.values())

    @property
    def errors(self) -> float:
        return sum(count for code, count in self.by_code.items() if code >= 500)

    def since(self, earlier: "Counters") -> "Counters":
        """The growth between two scrapes. A counter that went down was reset; its new value is the growth then."""
        return Counters(
            by_code={code: _growth(count, earlier.by_code.get(code, 0.0)) for code, count in self.by_code.items()},
            buckets={bound: _growth(count, earlier.buckets.get(bound, 0.0)) for bound, count in self.buckets.items()},
            parts={name: part.since(earlier.parts.get(name, Counters())) for name, part in self.parts.items()},
        )

    def quantile_ms(self, share: float) -> float | None:
        """The latency in milliseconds below which `share` of the requests lie, interpolated within its bucket; None without requests.

        Source: the rule of Prometheus' histogram_quantile (linear within a bucket, the highest finite bound for the +Inf bucket).
        """
        bounds = sorted(self.buckets)
        total = self.buckets[bounds[-1]] if bounds else 0.0
        if not total:
            return None
        rank = share * total
        lower_bound, lower_count = 0.0, 0.0
        for bound in bounds:
            count = self.buckets[bound]
            if count >= rank:
                if bound == float("inf"):
                    return 1000 * lower_bound
                inside = (rank - lower_count) / (count - lower_count) if count > lower_count else 1.0
                return 1000 * (lower_bound + (bound - lower_bound) * inside)
            lower_bound, lower_count = bound, count
        return 1000 * lower_bound


def _growth(now: float, before: float) -> float:
    return now - before if now >= before else now
