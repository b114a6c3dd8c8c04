"""`[alerts]` of an environment file."""

from dataclasses import dataclass

from delivery.strict import STRICT


@dataclass(frozen=True)
class AlertSettings:
    """A critical alert that is still open after `escalate_minutes` is told once more, to more people; 0: never."""

    __pydantic_config__ = STRICT

    escalate_minutes: float = 30.0

    def problems(self) -> tuple[str, ...]:
        """Everything that cannot be meant, as sentences `key: got …, expected …`."""
        return () if self.escalate_minutes >= 0 else (f"alerts.escalate_minutes: got {self.escalate_minutes:g}, expected 0 or more",)
