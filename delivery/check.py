"""What tools say about code before anything runs."""

from dataclasses import dataclass

from delivery.application import STRICT


@dataclass(frozen=True)
class CheckResult:
    """One tool's answer. `tail` holds the last lines of its output, redacted; `log` is where the whole output lies."""

    __pydantic_config__ = STRICT

    name: str
    passed: bool
    seconds: float
    tail: tuple[str, ...] = ()
    log: str = ""
    cached: bool = False

    def sentence(self) -> str:
        verb = "passed" if self.passed else "failed"
        return f"{self.name} {verb} in {self.seconds:.1f} s" + (" (from the cache)" if self.cached else "")
