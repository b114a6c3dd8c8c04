"""What is pending in an environment, as the gate shows it: each statement that matters, its lock, what the judges said, who waived it."""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from datetime import date

from delivery.contraction import Proof, contractions, proofs_in
from delivery.durations import LONGEST_ONLINE_SECONDS, Measured, measured_in, total_sentence
from delivery.journal import Evidence
from delivery.operations import MigrationWaiver, Operation
from delivery.revisions import Admission, ReviewedRevision

_MOST_ROWS = 40


# Whether a contraction was proved beside one version, and who answers for it if not.
Told = tuple[Proof, MigrationWaiver | None]


def migrations_markdown(told: Admission, contracting: Sequence[Told] = ()) -> list[str]:
    """Paragraphs; one that says so when nothing is pending."""
    if told.refusal:
        return [f"**Refused:** {_cell(told.refusal)}."]
    if not told.revisions:
        return ["No revision is pending here, or no version serves yet that could notice one."]
    return [
        *(
            part
            for one in told.revisions
            for part in _revision(one, [each for each in contracting if each[0].contraction.revision == one.id])
        ),
        *_durations(told),
    ]


def taken_away_markdown(rehearsal: Evidence | None, waivers: Sequence[MigrationWaiver], today: date) -> list[str]:
    """The same of a rollout's own rehearsal; nothing where it took nothing away."""
    proofs = proofs_in(rehearsal)
    return list(contracting_markdown((one, None if one.holds else one.contraction.waiver(waivers, today)) for one in proofs))


def _durations(told: Admission) -> Iterator[str]:
    """How long each statement would take here, by a copy's measure; which make users wait, and who answers for that."""
    if not told.estimates:
        return
    yield "### How long it takes here"
    yield total_sentence(told.estimates)
    lines = ["| revision | statement | lock | takes |", "| --- | --- | --- | --- |"]
    for one in told.estimates[:_MOST_ROWS]:
        measured, takes = one.measured, _cell(one.sentence())
        disk = one.disk_bytes
        takes += f"; needs {disk / 1e6:,.0f} MB of disk" if disk else "; how much disk it needs is unknown" if disk is None else ""
        sql, lock = _cell(measured.sql[:80]), _cell(_locked(measured))
        lines.append(f"| {_cell(measured.revision)} | {sql} | {lock} | {f'**{takes}**' if one.is_long or one.warns else takes} |")
    more = len(told.estimates) - _MOST_ROWS
    yield "\n".join(lines) + (f"\n\n… and {more} more." if more > 0 else "")
    if any(one.warns for one in told.estimates):
        yield f"**Nobody waits for it, and it takes long:** more than {LONGEST_ONLINE_SECONDS / 60:.0f} minutes."
    for stall in told.stalls:
        answers = stall.waiver.sentence() if stall.waiver else "nobody answers for it"
        yield f"**Users wait** for {_cell(stall.table or 'a table')}: {_cell(answers)}."


def rehearsed_markdown(rehearsal: Evidence | None) -> Iterator[str]:
    """What each statement locked on the copy and how long it took there; nothing where nothing was rehearsed."""
    found = measured_in(rehearsal.facts.get("measured")) if rehearsal is not None else ()
    if not found:
        return
    yield "On a copy of the database, each statement with the strongest lock that it held and the time that it took:"
    rows = [
        (one.revision, one.sql[:80], _locked(one), "unknown" if one.rows is None else f"{one.rows:,}", f"{1000 * one.seconds:,.0f} ms")
        for one in found[:_MOST_ROWS]
    ]
    more = len(found) - _MOST_ROWS
    head = ["| revision | statement | lock | rows | took |", "| --- | --- | --- | --- | --- |"]
    yield "\n".join([*head, *("| " + " | ".join(map(_cell, row)) + " |" for row in rows)]) + (f"\n\n… and {more} more." if more > 0 else "")


def _locked(measured: Measured) -> str:
    """The label of the strongest lock, with its table where both are known."""
    return f"{measured.lock.label} on {measured.table}" if measured.lock and measured.table else measured.lock.label


def downgrade_markdown(found: Evidence) -> Iterator[str]:
    """Whether the schema went back, and each condition for that with what was found."""
    yield f"{_cell(found.summary)}."
    told = found.facts.get("conditions")
    rows = [_condition(one) for one in told if isinstance(one, Mapping)] if isinstance(told, list | tuple) else []
    if rows:
        yield "\n".join(["| condition | what was found |", "| --- | --- |", *rows])


def _condition(told: Mapping[str, object]) -> str:
    cells = [_cell(str(told.get(key))) for key in ("name", "reason")]
    return "| " + " | ".join(cells if told.get("holds") else [f"**{cell}**" for cell in cells]) + " |"


def contracting_markdown(contracting: Iterable[Told]) -> Iterator[str]:
    """For each thing that is taken away and each version that serves: proved how, or where it is still named and who answers for it."""
    rows = [
        f"| {_cell(proof.contraction.label)} | {proof.release} | {'proved' if proof.holds else '**not proved**'}: {_cell(proof.how)}"
        f"{f'. **{_cell(waiver.sentence())}**' if waiver else ''} |"
        for proof, waiver in contracting
    ]
    if rows:
        yield "\n".join(["| taken away | beside | is it unused? |", "| --- | --- | --- |", *rows])


def _revision(one: ReviewedRevision, contracting: Sequence[Told]) -> Iterator[str]:
    yield f"### Revision `{one.id}`: {_cell(one.title) or 'without a title'}"
    if labels := [found.label for found in contractions(one)]:
        yield f"**It contracts** (takes away what a live version may use): {_cell(', '.join(labels))}."
    yield from contracting_markdown(contracting)
    rows = [_row(operation) for operation in one.operations[:_MOST_ROWS]]
    if rows:
        lines = ["| statement | lock | verdict | why |", "| --- | --- | --- | --- |", *rows]
        more = len(one.operations) - len(rows)
        yield "\n".join(lines) + (f"\n\n… and {more} more." if more else "")
    if one.sql:
        yield "```sql\n" + one.sql.replace("```", "'''").strip() + "\n```"
    else:
        yield "Python decides what it does: there is no SQL to read."


def _row(operation: Operation) -> str:
    about = f" on {operation.table}" if operation.table else ""
    lock = f"{operation.lock.label}{about}" if operation.lock else ""
    why = f"{operation.rule}: {operation.reason}"
    verdict = operation.safety.value
    if operation.waiver is not None:
        verdict = f"**{verdict}, {operation.waiver.sentence()}**"
    elif operation.stops:
        verdict = f"**{verdict}**"
    return f"| {operation.statement or ''} | {_cell(lock)} | {_cell(verdict)} | {_cell(why)} |"


def _cell(text: str) -> str:
    """Foreign text on one line, without what Markdown would take for HTML or a column."""
    return " ".join(text.split()).replace("<", "&lt;").replace("|", "\\|")[:400]
