"""What happened, for people: a rollout's story and a promotion's evidence, as Markdown that is read in five seconds.

Pure functions of the journal; where numbers are missing they say so.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta

from delivery.environment import Environment
from delivery.journal import Closed, Ending, Entry, Evidence, Finished, Opened, Progress, Promoted, Started, TurnedBack
from delivery.plan import Plan, Step, StepKind
from delivery.record import RolloutRecord
from delivery.revisions import Admission
from delivery.verification import Deed, Verification
from tasks.charts import charts
from tasks.markdown import length as _seconds
from tasks.markdown import one_line as _text
from tasks.markdown import table as _table
from tasks.report_backup import backup_markdown
from tasks.report_inspection import inspection_markdown
from tasks.report_migrations import Told, downgrade_markdown, migrations_markdown, rehearsed_markdown, taken_away_markdown
from tasks.report_release import overlap, released
from tasks.report_shares import shares, shares_markdown

_SHOWN_COMMITS = 20


@dataclass(frozen=True)
class Moment:
    """One line of a rollout's timeline. `seconds` is None for what has no length, or has not ended."""

    at: datetime
    step: str
    seconds: float | None
    what: str
    well: bool = True


def rollout_markdown(entries: Sequence[Entry], record: RolloutRecord) -> str:
    """The story of one rollout: how it ended, what happened when, who answered what, the migrations, where things lie, what is next."""
    progress = Progress.of(entry.event for entry in entries)
    plan = progress.plan
    parts = [
        f"# {_title(progress)}",
        f"{_outline(plan)} · `{record.id}` · {_kind(plan)} by {_text(progress.by)} · {_time(record.opened_at)}{_length(entries, record)}",
        _table(("time", "step", "took", "what"), [_cells(moment) for moment in timeline(entries)]),
    ]
    if told := shares_markdown(plan, shares(entries)):
        parts += ["## Who answered what", told]
    parts += [chart.markdown() for chart in charts(entries)]
    if (migrated := _finished(progress, StepKind.MIGRATE)) is not None:
        rehearsed = rehearsed_markdown(_finished(progress, StepKind.PROVE))
        parts += ["## Migrations", _migration_markdown(migrated), *rehearsed]
    if told_of := taken_away_markdown(_finished(progress, StepKind.PROVE), plan.environment.waiver, record.opened_at.date()):
        parts += ["## What the migrations take away", *told_of]
    if (kept := _finished(progress, StepKind.BACKUP)) is not None:
        parts += ["## Backup", backup_markdown(record.id, kept)]
    if (taken_back := _finished(progress, StepKind.DOWNGRADE)) is not None:
        parts += ["## The way back of the schema", *downgrade_markdown(taken_back)]
    if (inspected := _finished(progress, StepKind.INSPECT)) is not None:
        parts += ["## Inspection", *inspection_markdown(inspected)]
    if both_up := overlap(entries):
        parts += ["## What it cost", both_up]
    parts += ["## What was released", *released(entries)]
    if logs := _logs(progress):
        parts += ["## Logs", "\n".join(f"- `{file}`" for file in logs)]
    return "\n\n".join([*parts, f"**Next:** {_next(progress, record)}"]) + "\n"


def rollout_rows(entries: Sequence[Entry]) -> list[dict[str, str]]:
    """The timeline as rows of a table artifact."""
    return [dict(zip(("time", "step", "took", "what"), _cells(moment), strict=True)) for moment in timeline(entries)]


def evidence_markdown(plan: Plan, staging: Sequence[Entry], migrations: Admission | None = None, contracting: Sequence[Told] = ()) -> str:
    """What a person weighs before saying yes: what changes, what proved it, and what would happen. `staging` are the entries of the
    rollout that brought the release to the environment before; empty when there was none. `migrations` is what is pending here,
    `contracting` what of it takes something away.
    """
    release, environment = plan.release, plan.environment
    came_from = plan.blue.version.tag if plan.blue else "nothing"
    parts = [f"# {environment.title}: {came_from} → {release.version.tag}?", _staging_sentence(staging)]
    parts += [f"Commit `{release.sha}` by {_text(release.author)}, {len(release.commits)} commits since the last release."]
    parts += [_list(_text(subject) for subject in release.commits[:_SHOWN_COMMITS])] if release.commits else []
    if len(release.commits) > _SHOWN_COMMITS:
        parts.append(f"… and {len(release.commits) - _SHOWN_COMMITS} more.")
    if release.evidence:
        parts += ["## Checks", _table(("stage", "evidence"), [(name, told) for name, told in release.evidence.items()])]
    parts += ["## Images", _table(("service", "image"), [(name, f"`{image}`") for name, image in release.images.items()])]
    parts += ["## Migrations", *(migrations_markdown(migrations, contracting) if migrations else ()), _planned_migration(plan, staging)]
    if staging:
        proven = [_cells(moment) for moment in timeline(staging)]
        parts += ["## What staging showed", _table(("time", "step", "took", "what"), proven)]
        if (inspected := _finished(Progress.of(entry.event for entry in staging), StepKind.INSPECT)) is not None:
            parts += inspection_markdown(inspected)
    parts += ["## What will happen", _list(_planned(step, environment) for step in plan.forward)]
    parts += [_way_back(plan)]
    return "\n\n".join(parts) + "\n"


def verification_markdown(environment: Environment, row: Verification, *, obstacle: str | None) -> str:
    """What each public endpoint answered at the last look, and what comes of it."""
    policy = environment.verification
    state = "fails" if row.failing else "is well" if all(one.outcome == "well" for one in row.findings) else "is not known to be well"
    limits = f"A person is told after {policy.alert_after} failures in a row"
    limits += f", and the release before comes back after {policy.rollback_after}." if policy.on_failure == "rollback" else "."
    rows = [(f"{one.outcome}: {_text(one.endpoint)}", _text(one.detail), _time(row.at), str(one.failures)) for one in row.findings]
    parts = [
        f"# {environment.title} {state}",
        f"{row.release}, look {row.number}. {limits}",
        _table(("endpoint", "answer", "time", "failures in a row"), rows),
    ]
    if row.deed is not Deed.NOTHING:
        parts.append(f"**{row.deed.value.capitalize()}**: {_text(row.reason)}")
    if obstacle:
        parts.append(f"It does not go back by itself: {_text(obstacle)}.")
    return "\n\n".join(parts)


def timeline(entries: Sequence[Entry]) -> tuple[Moment, ...]:
    """Each step once, with what it found, and what came from outside the steps."""
    return tuple(_moments(entries))


def _all(plan: Plan) -> tuple[Step, ...]:
    return (*plan.forward, *plan.back)


def _moments(entries: Sequence[Entry]) -> Iterator[Moment]:
    started: dict[str, datetime] = {}
    for entry in entries:
        match entry.event:
            case Started(step=step, attempt=attempt):
                if attempt > 1:
                    yield Moment(started[step], step, None, f"interrupted, taken up again (attempt {attempt})", well=False)
                started[step] = entry.at
            case Finished(step=step, evidence=evidence):
                began = started.pop(step, entry.at)
                yield Moment(began, step, (entry.at - began).total_seconds(), evidence.summary, well=evidence.well)
            case TurnedBack(reason=reason):
                yield Moment(entry.at, "turned back", None, reason, well=False)
            case Opened() | Promoted() | Closed():
                pass
    for step, began in started.items():
        yield Moment(began, step, None, "under way")


def _cells(moment: Moment) -> tuple[str, str, str, str]:
    took = "" if moment.seconds is None else _seconds(moment.seconds)
    what = _text(moment.what)
    return f"{moment.at:%H:%M:%S}", moment.step, took, what if moment.well else f"**{what}**"


def _title(progress: Progress) -> str:
    if progress.closed:
        return _text(progress.closed.message)
    step, plan = progress.next_step(), progress.plan
    where = f"is at {step.name}" if step else "is about to end"
    return f"{plan.environment.title}: {plan.release.version.tag} {where}."


def _outline(plan: Plan) -> str:
    return f"**{plan.blue.version.tag if plan.blue else 'nothing'} → {plan.release.version.tag}** on {plan.environment.name}"


def _kind(plan: Plan) -> str:
    return {"normal": "rollout", "hotfix": "hotfix", "rollback": "rollback", "config": "configuration"}[plan.kind]


def _length(entries: Sequence[Entry], record: RolloutRecord) -> str:
    until = record.ended_at or (entries[-1].at if entries else record.opened_at)
    return f" · {_seconds((until - record.opened_at).total_seconds())}"


def _finished(progress: Progress, kind: StepKind) -> Evidence | None:
    return next(
        (progress.finished[step.name] for step in _all(progress.plan) if step.kind is kind and step.name in progress.finished), None
    )


def _migration_markdown(evidence: Evidence) -> str:
    output = evidence.facts.get("output")
    lines = [str(line).replace("```", "'''") for line in output] if isinstance(output, list | tuple) else []
    return _text(evidence.summary) + ("\n\n```\n" + "\n".join(lines) + "\n```" if lines else "")


def _logs(progress: Progress) -> list[str]:
    """Where the output of the migration lies, then the logs of containers."""
    migrated, collected = (_finished(progress, kind) for kind in (StepKind.MIGRATE, StepKind.COLLECT))
    output = migrated.facts.get("log") if migrated else None
    files = collected.facts.get("logs") if collected else None
    return [str(file) for file in ([output] if output else []) + (list(files) if isinstance(files, list | tuple) else [])]


def _next(progress: Progress, record: RolloutRecord) -> str:
    plan = progress.plan
    environment = plan.environment.name
    if progress.closed is None:
        return "wait; `greenroom status` shows every step."
    match progress.closed.ending:
        case Ending.LIVE:
            if plan.blue is None or record.promoted_at is None:
                return "nothing."
            warm_until = record.promoted_at + timedelta(seconds=plan.environment.traffic.hold_seconds)
            return (
                f"nothing. {plan.blue.version.tag} stays warm until {warm_until:%H:%M:%S} UTC; "
                f"until then `greenroom rollback {environment}` is one shift of traffic."
            )
        case Ending.ROLLED_BACK | Ending.UNTOUCHED:
            told = _remedy(progress)
            return told or f"find out why in the logs of {plan.release.version.tag}, then release a new version."
        case Ending.NEEDS_HUMAN:
            told = _remedy(progress)
            return f"{told or f'look at `greenroom status --environment {environment}`.'} The page for this: docs/runbooks/needs-human.md."


def _remedy(progress: Progress) -> str | None:
    """What the failing step itself said to do."""
    sick = [progress.finished[step.name] for step in _all(progress.plan) if step.name in progress.finished]
    told = [evidence.facts.get("next") for evidence in sick if not evidence.well]
    return next((_text(text) for text in reversed(told) if isinstance(text, str)), None)


def _staging_sentence(staging: Sequence[Entry]) -> str:
    if not staging:
        return "**No environment before this one has shown it.**"
    progress = Progress.of(entry.event for entry in staging)
    where = progress.plan.environment.name
    if progress.closed is None:
        return f"**It is still being rolled out to {where}.**"
    baseline = _finished(progress, StepKind.LOAD)
    told = f" {baseline.summary[0].upper()}{_text(baseline.summary[1:])}." if baseline else ""
    return f"{_text(progress.closed.message)}{told}"


def _planned_migration(plan: Plan, staging: Sequence[Entry]) -> str:
    if not any(step.kind is StepKind.MIGRATE for step in plan.forward):
        return "None."
    migrated = _finished(Progress.of(entry.event for entry in staging), StepKind.MIGRATE) if staging else None
    told = f" On {_environment_of(staging)}: {_migration_markdown(migrated)}" if migrated else ""
    return f"Alembic brings the schema to its head before the new version starts.{told}"


def _environment_of(entries: Sequence[Entry]) -> str:
    return Progress.of(entry.event for entry in entries).plan.environment.name


def _planned(step: Step, environment: Environment) -> str:
    match step.kind:
        case StepKind.SHIFT:
            return f"`{step.name}`: {step.percent} % of the users get the new version"
        case StepKind.WATCH:
            limits = [f"{trigger.name} above {trigger.threshold:g} for {trigger.for_seconds:g} s" for trigger in environment.trigger]
            compared = environment.judge.enabled and (step.percent or 0) < 100
            limits += ["evidence that it is worse than the live version"] if compared else []
            return f"`{step.name}`: watched for {_seconds(step.seconds or 0.0)}; back at once on {', '.join(limits) or 'sickness'}"
        case _:
            return f"`{step.name}`"


def _way_back(plan: Plan) -> str:
    if plan.blue is None:
        return "A failure before the promotion removes the new version again."
    hold = _seconds(plan.environment.traffic.hold_seconds)
    return f"A failure before the promotion gives {plan.blue.version.tag} every user back; it stays warm for {hold} after it."


def _list(items: Iterator[str]) -> str:
    return "\n".join(f"- {item}" for item in items)


def _time(at: datetime) -> str:
    return f"{at:%Y-%m-%d %H:%M:%S} UTC"
