"""What one release was asked and has answered, counted from scrape to scrape."""

from collections import deque
from collections.abc import Mapping
from dataclasses import dataclass, field

from delivery.health import Counters

Facts = Mapping[str, object]


@dataclass
class Traffic:
    """What one release's counters grew by, look by look, within the window and since the watch began."""

    window_seconds: float
    minimum_requests: int
    total: Counters = field(default_factory=Counters)
    _previous: Counters | None = None
    _grown: deque[tuple[float, Counters]] = field(default_factory=deque)

    def see(self, at: float, counters: Counters | None) -> None:
        """Takes one scrape in; None is one that failed. The first one known is what growth is counted from."""
        if counters is not None:
            if self._previous is not None:
                growth = counters.since(self._previous)
                self._grown.append((at, growth))
                self.total = Counters.sum((self.total, growth))
            self._previous = counters
        while self._grown and self._grown[0][0] <= at - self.window_seconds:
            self._grown.popleft()

    @property
    def window(self) -> Counters | None:
        """The growth over the last window; None when nothing was scraped in it."""
        return Counters.sum(growth for _, growth in self._grown) if self._grown else None

    @property
    def error_rate(self) -> float | None:
        """Server errors per request over the window; None with fewer requests than the minimum."""
        window = self.window
        if window is None or window.requests < self.minimum_requests:
            return None
        return window.errors / window.requests if window.requests else 0.0

    @property
    def p95_ms(self) -> float | None:
        """The 95th percentile of the response time over the window; None with fewer requests than the minimum."""
        window = self.window
        return window.quantile_ms(0.95) if window is not None and window.requests >= self.minimum_requests else None

    def sentence(self) -> str:
        window = self.window
        if window is None:
            return "unknown"
        share = f"{100 * window.errors / window.requests:.3g} % errors of " if window.requests else ""
        return f"{share}{window.requests:,.0f} requests"

    def facts(self) -> Facts:
        p95 = self.total.quantile_ms(0.95)
        return {
            "requests": round(self.total.requests),
            "errors": round(self.total.errors),
            "p95_ms": None if p95 is None else round(p95, 1),
        }
