"""How everything that people write is read: a key that nobody knows is refused, never skipped."""

STRICT = {"extra": "forbid"}
