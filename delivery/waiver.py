"""Somebody takes an objection on themselves: for a reason, under a name, until a day."""

from dataclasses import dataclass
from datetime import date


@dataclass(frozen=True, kw_only=True)
class Waiver:
    """What every waiver has, whatever it excuses. `until` is the last day on which it holds, by UTC."""

    reason: str
    owner: str
    until: date

    @property
    def unnamed(self) -> tuple[str, ...]:
        """The keys that say nothing; such a waiver never holds."""
        return tuple(key for key in ("reason", "owner") if not getattr(self, key).strip())

    def why_not(self, today: date) -> str:
        """Why it does not hold on that day, continuing its name; "" when it does."""
        if self.unnamed:
            return f"has no {' and no '.join(self.unnamed)}."
        return f"ran out on {self.until}." if self.until < today else ""

    def holds_on(self, today: date) -> bool:
        return not self.why_not(today)
