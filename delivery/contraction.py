"""Contracting: taking away what the version that serves may still use. Named here, so that nobody has to guess which release does it."""

from collections.abc import Iterable

from delivery.operations import Operation

# Rules of `migration_rules`. What keeps the old name usable (a view behind a rename, a dropped constraint) takes nothing away.
CONTRACTING = frozenset(
    {
        "rename", "rename-view-differs", "drop", "drop-column", "drop-default", "drop-unique", "required-column", "set-not-null",
        "set-not-null-proven", "rights", "behaviour", "truncate",
    }
)  # fmt: skip


def contractions(operations: Iterable[Operation]) -> tuple[str, ...]:
    """What contracts, as `rule on table`, each once; waived or not."""
    return tuple(dict.fromkeys(f"{one.rule} on {one.table or '*'}" for one in operations if one.rule in CONTRACTING))
