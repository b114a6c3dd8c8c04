"""`greenroom metrics`: how well releases reach their users, from the journal alone."""

import json
from pathlib import Path

from blocks.settings import environment_names, settings
from cli.delivery_numbers import document_of
from cli.journal import open_journal
from cli.metrics_textfile import write_textfile
from delivery.errors import InvalidSettings
from tasks.delivery_report import NOTHING_YET, Delivered, delivered, failed, figures, sentence


def show_metrics(environment: str | None, *, days: int, as_json: bool, textfile: Path | None = None) -> None:
    current = settings()
    with open_journal(current) as store:
        known = sorted({*environment_names(current.environments_dir), *(record.environment for record in store.rollouts(limit=500))})
        if environment is not None and environment not in known:
            raise InvalidSettings(
                f"Unknown environment: got {environment[:80]!r}, expected one of: {', '.join(known) or 'none'}.", next="correct the name."
            )
        found, now = delivered(store, days=days, environment=environment), store.now()
    if textfile is not None:
        write_textfile(textfile, found, now=now)
    if as_json:
        print(json.dumps({"at": now.isoformat(), "days": days, "services": [_document(told) for told in found]}, ensure_ascii=False))
    else:
        print("\n\n".join("\n".join(lines_of(told)) for told in found) or NOTHING_YET)


def lines_of(told: Delivered) -> list[str]:
    rows = figures(told.seen)
    name_width, value_width = (max(len(text) for text in column) for column in ([row.name for row in rows], [row.value for row in rows]))
    lines = [sentence(told)]
    for row in rows:
        target = f"target {row.target:<7} {row.verdict}" if row.target else ""
        lines.append(f"  {row.name:<{name_width}}  {row.value:<{value_width}}  {target}".rstrip())
    if names := failed(told.seen):
        lines.append(f"  failed: {', '.join(names)}")
    return [*lines, f"  failures are known from: {told.coverage}"]


def _document(told: Delivered) -> dict[str, object]:
    seen = told.seen
    window = {"start": seen.window.start.isoformat(), "end_exclusive": seen.window.end.isoformat()}
    about = {"environment": seen.environment, "service": seen.service, "coverage": told.coverage, "window": window}
    return about | document_of(seen)
