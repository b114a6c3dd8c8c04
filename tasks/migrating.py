"""What a migration's command told, as a step's evidence."""

import re
from collections.abc import Sequence

from delivery.journal import Evidence
from tasks.image_alembic import Answer, answer_in, words_of

_KEPT_LINES = 40


def migrated(output: Sequence[str]) -> Evidence:
    """The step's evidence. `before`, `after` and `applied` (revisions with the hashes of their files) stand in its facts whenever they are
    known, a failure included: what was applied stays applied.
    """
    answer, words = answer_in(output), words_of(output)
    facts: dict[str, object] = {"output": list(words[-_KEPT_LINES:])}
    if answer is None:
        return Evidence(well=False, summary=f"migration failed: {useful_line(words)}", facts=facts)
    facts |= {name: answer.told[name] for name in ("before", "after", "applied", "tries", "seconds") if name in answer.told}
    if answer.refusal:
        return Evidence(well=False, summary=f"migration failed: {answer.refusal}", facts={**facts, "next": f"{answer.way_out}."})
    return Evidence(well=True, summary=_moved(answer), facts=facts)


def _moved(answer: Answer) -> str:
    before, after = (" and ".join(answer.names(key)) for key in ("before", "after"))
    if before == after:
        return f"the schema is at {after or 'nothing'}, as before"
    tries = answer.told.get("tries", 1)
    again = f", after {tries} tries" if isinstance(tries, int) and tries > len(answer.told.get("applied") or ()) else ""
    return f"the schema went from {before or 'an empty database'} to {after or 'an empty database'}{again}"


_ERROR = re.compile(r"(?:[A-Za-z_][\w.]*(?:Error|Exception|Violation|Failure|NotFound|Exists)|FAILED|ERROR|FATAL)\b.*")
_NOISE = re.compile(r"\(Background on this error|\[SQL:|\[parameters:|Traceback |  |DETAIL:|HINT:|LINE \d|\^")


def useful_line(output: Sequence[str]) -> str:
    """The line of a failed command's output that tells a person most: the last that names an error, else the last that is no noise."""
    lines = [line.rstrip() for line in output if line.strip()]
    errors = [line.strip() for line in lines if _ERROR.match(line.strip())]
    if errors:
        return errors[-1][:300]
    plain = [line.strip() for line in lines if not _NOISE.match(line)]
    return (plain or [line.strip() for line in lines] or ["it said nothing"])[-1][:300]
