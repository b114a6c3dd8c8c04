"""Users in virtual time, as a steady stream: who is answered by whom, who is not, and by whose fault."""

from collections import deque
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field

from delivery.errors import TransientError
from delivery.health import Counters
from delivery.ports import MetricSource
from delivery.release import Release
from tests.chaos.simulated.kernel import Kernel
from tests.simulated_target import BUCKETS

PER_SECOND = 200.0
SLOW_SHARE, SLOW_SECONDS = 0.05, 3.0  # one request in twenty takes three seconds


@dataclass
class Users:
    """Counts up to now whenever something is about to change. `failed` is the pipeline's fault, `apart` is that of a replica that died.

    `serves` tells whether a release answers, `has_died` whether it lost replicas by itself, `shares` who gets which percentage.
    """

    kernel: Kernel
    serves: Callable[[str], bool]
    has_died: Callable[[str], bool]
    shares: Callable[[], Mapping[str, int]]
    expect_service: bool = False  # before an environment's first release nobody comes
    errs_from: tuple[str, int] | None = None  # (release, percent): it answers 500 to a fifth of its requests from that share on
    silent_until: float = 0.0
    failed: float = 0.0
    apart: float = 0.0
    reasons: list[str] = field(default_factory=list)
    _until: float = 0.0
    _codes: dict[str, dict[int, float]] = field(default_factory=dict)
    _lately: dict[str, deque[tuple[float, float, float]]] = field(default_factory=dict)

    def count(self) -> None:
        """Everybody who came since the last time, under what held until now."""
        since, self._until = self._until, self.kernel.now
        passed = self._until - since
        if passed <= 0:
            return
        shares = self.shares()
        for release, share in shares.items():
            if share:
                self._send(release, share, since, passed)
        if self.expect_service and (missing := 100 - sum(shares.values())):
            self._fail(PER_SECOND * passed * missing / 100, f"{missing} % of the users were sent to nobody", by_itself=False)

    def in_flight(self, release: str) -> float:
        """Slow requests that a release has begun and not answered."""
        self.count()
        begun = 0.0
        for start, end, share in self._lately.get(release, ()):
            begun += max(0.0, end - max(start, self.kernel.now - SLOW_SECONDS)) * share / 100
        return PER_SECOND * SLOW_SHARE * begun

    def seconds_until_answered(self, release: str) -> float:
        """How long the last of a release's slow requests still takes; 0 when there is none."""
        self.count()
        lately = self._lately.get(release)
        return max(0.0, lately[-1][1] + SLOW_SECONDS - self.kernel.now) if lately else 0.0

    def cut_off(self, requests: float, release: str) -> None:
        """Requests in flight whose replica went away."""
        self._fail(requests, f"{requests:.1f} requests in flight were cut off on {release}", by_itself=self.has_died(release))

    def scrape(self, releases: Iterable[Release]) -> Mapping[str, Counters]:
        self.count()
        if self.kernel.now < self.silent_until:
            raise TransientError("The metrics do not answer.", next="look at the traffic layer.")
        found = {}
        for release in releases:
            if codes := self._codes.get(release.id):
                total = sum(codes.values())
                found[release.id] = Counters(dict(codes), {bound: total if bound >= SLOW_SECONDS else 0.95 * total for bound in BUCKETS})
        return found

    def _send(self, release: str, share: int, since: float, passed: float) -> None:
        requests = PER_SECOND * passed * share / 100
        codes = self._codes.setdefault(release, {200: 0.0, 500: 0.0, 502: 0.0})
        if not self.serves(release):
            codes[502] += requests
            self._fail(requests, f"{release} had {share} % of the users and was not up", by_itself=self.has_died(release))
            return
        wrong = requests / 5 if self.errs_from and self.errs_from[0] == release and share >= self.errs_from[1] else 0.0
        codes[200] += requests - wrong
        codes[500] += wrong
        lately = self._lately.setdefault(release, deque())
        lately.append((since, self._until, share))
        while lately[0][1] < self._until - SLOW_SECONDS:
            lately.popleft()

    def _fail(self, requests: float, reason: str, *, by_itself: bool) -> None:
        if requests <= 1e-6:
            return
        if by_itself:
            self.apart += requests
            return
        self.failed += requests
        if reason not in self.reasons:
            self.reasons.append(reason)

    def gauges_of(self, release: Release) -> Mapping[str, float]:  # noqa: ARG002
        return {}


_: type[MetricSource] = Users
