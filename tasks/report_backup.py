"""What was kept of the database before a rollout migrated it, and how it is brought back, for the rollout's report."""

from delivery.backup import Backup
from delivery.journal import Evidence
from tasks.markdown import length as _seconds
from tasks.markdown import one_line as _text


def backup_markdown(rollout: str, evidence: Evidence) -> str:
    """In which file it lies, and the command that brings it back; what the platform called its snapshot; why there is neither."""
    backup = Backup.of(rollout, evidence.facts)
    if backup is None:
        return f"{_text(evidence.summary[0].upper() + evidence.summary[1:])}."
    at = ", ".join(backup.revisions) or "no revision"
    return (
        f"`backups/{backup.file}` in the work directory holds the database as it was before this rollout: {backup.bytes:,} bytes in "
        f"{_seconds(backup.seconds)}, {len(backup.rows)} tables with {sum(backup.rows.values()):,} rows, at {_text(at)}; "
        f"SHA-256 `{backup.sha256}`. What was written since is not in it. To bring it back beside the database: "
        f"`createdb restored && pg_restore --dbname=restored --exit-on-error backups/{backup.file}`; the rest stands in docs/operating.md, "
        "Backups."
    )
