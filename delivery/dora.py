"""How well software is delivered: DORA's five metrics of one service in one environment over one window, from what happened.

The metrics are those of dora.dev's guide (https://dora.dev/guides/dora-metrics/, as of January 2026); where the guide leaves a choice,
the docstrings say which one is taken and who chooses otherwise. What is not known is None, never 0; counts of what was seen are numbers.
The order in which records come in is irrelevant.
"""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, date, datetime, timedelta
from functools import cached_property
from statistics import median
from typing import Literal, assert_never

from delivery.environment import Kind

Outcome = Literal["succeeded", "rolled_back_after_completion", "aborted_in_canary", "failed_before_traffic", "cancelled"]
Start = Literal["impact", "detection", "deployment"]
WeekStart = Literal["monday", "sunday"]
Bucket = Literal["Daily", "Weekly", "Monthly", "Yearly"]

DAY = timedelta(days=1)
TURNED_BACK: frozenset[Outcome] = frozenset({"rolled_back_after_completion", "aborted_in_canary", "cancelled"})


@dataclass(frozen=True)
class Window:
    """From `start` to before `end`, aware times. A deployment belongs to the window that holds its end."""

    start: datetime
    end: datetime

    @property
    def days(self) -> float:
        return (self.end - self.start) / DAY

    def holds(self, at: datetime) -> bool:
        return self.start <= at < self.end


@dataclass(frozen=True)
class Deployment:
    """One rollout, in DORA's word. `outcome` None: still under way. Times are aware.

    `completed_at` is when it had all traffic, `traffic_started_at` when it had the first. `commits` are those that the release before did
    not have; `rollback_of` and `remediates` name the deployment that made this one necessary.
    """

    id: str
    service: str
    environment: str
    kind: Kind
    started_at: datetime
    traffic_started_at: datetime | None
    completed_at: datetime | None
    outcome: Outcome | None
    commits: tuple[str, ...] = ()
    planned: bool = True
    rollback_of: str | None = None
    remediates: str | None = None

    @property
    def ended_at(self) -> datetime | None:
        """When it had all traffic, else (aborted in its canary) the first; None when it never served, or is still under way."""
        if self.completed_at is None and self.outcome is None:
            return None
        return self.completed_at or self.traffic_started_at


@dataclass(frozen=True)
class Failure:
    """Something that needed immediate intervention; `deployment` is what it is put down to (None: to no deployment)."""

    id: str
    deployment: str | None
    impact_started_at: datetime | None = None
    detected_at: datetime | None = None
    restored_at: datetime | None = None


@dataclass(frozen=True)
class Incident:
    """What an incident tracker knows; only the variants that look through a tracker's eyes use it."""

    id: str
    cause_deployment: str | None
    opened_at: datetime
    resolved_at: datetime | None


@dataclass(frozen=True)
class Log:
    """All that is known, of all services and environments and from before the window too: a commit's first deployment may lie there.

    `commits` has each commit's committer date on the branch that was deployed.
    """

    deployments: Sequence[Deployment] = ()
    commits: Mapping[str, datetime] | None = None
    failures: Sequence[Failure] = ()
    incidents: Sequence[Incident] = ()


@dataclass(frozen=True)
class Frequency:
    """Deployment frequency: deployments per day of the window, those that completed, and UTC days with at least one that completed."""

    deployments: int
    per_day: float | None
    completed: int
    completed_per_day: float | None
    deployment_days: int


@dataclass(frozen=True)
class LeadTimes:
    """Change lead time of each commit that the window's deployments brought first."""

    per_commit: Mapping[str, timedelta]

    @property
    def median(self) -> timedelta | None:
        return median_of(self.per_commit.values())

    @property
    def mean(self) -> timedelta | None:
        return _mean(self.per_commit.values())

    @property
    def p90(self) -> timedelta | None:
        """Nearest rank: the ceil(0.9 n)-th smallest."""
        return self._smallest(-(-9 * len(self.per_commit) // 10))

    @property
    def lower_median(self) -> timedelta | None:
        """Apache DevLake's median: the largest value whose PERCENT_RANK is at most one half."""
        return self._smallest((len(self.per_commit) + 1) // 2)

    def _smallest(self, rank: int) -> timedelta | None:
        return sorted(self.per_commit.values())[rank - 1] if self.per_commit else None


@dataclass(frozen=True)
class Share:
    """Deployments out of a population, as ids; the value is a share from 0 to 1, None for an empty population."""

    deployments: tuple[str, ...]
    denominator: int

    @property
    def numerator(self) -> int:
        return len(self.deployments)

    @property
    def value(self) -> float | None:
        return _ratio(self.numerator, self.denominator)


@dataclass(frozen=True)
class Recoveries:
    """Failed deployment recovery time. `open` failures are those not known to be over: they are counted and have no time.

    `unrecorded` deployments failed (they were rolled back, say), but nobody recorded since when or until when: no time either.
    """

    recovered: int
    open: int
    unrecorded: tuple[str, ...]
    times: Mapping[Start, tuple[timedelta, ...]]

    def median(self, start: Start) -> timedelta | None:
        return median_of(self.times[start])

    def mean(self, start: Start) -> timedelta | None:
        return _mean(self.times[start])


@dataclass(frozen=True)
class Deliveries:
    """One service in one environment over one window: what DORA's metrics are about. Services are never blended."""

    log: Log
    window: Window
    service: str
    environment: str = "production"

    @cached_property
    def population(self) -> tuple[Deployment, ...]:
        """Deployments that ended in the window, served any of its users and are no rollbacks, by their end.

        Those that failed before they got traffic are failures of the pipeline, not of a change.
        """
        return self._counted(rollbacks_as_deployments=False)

    @cached_property
    def excluded(self) -> dict[str, str]:
        """Why each of the log's other deployments is not counted, by id."""
        reasons = ((one.id, self._reason(one)) for one in sorted(self.log.deployments, key=lambda one: (one.started_at, one.id)))
        return {identity: reason for identity, reason in reasons if reason is not None}

    def frequency(self, *, rollbacks_as_deployments: bool = False) -> Frequency:
        """Deployment frequency: "the number of deployments over a given period" (dora.dev), per day of the window."""
        counted = self._counted(rollbacks_as_deployments=rollbacks_as_deployments)
        completed = sum(one.completed_at is not None for one in counted)
        return Frequency(
            deployments=len(counted),
            per_day=len(counted) / self.window.days if counted else None,
            completed=completed,
            completed_per_day=completed / self.window.days if counted else None,
            deployment_days=len(_completion_days(counted)),
        )

    def deployment_days_by_week(self, first_day: WeekStart) -> tuple[int, ...]:
        """UTC days with a completed deployment in each calendar week that the window touches, in order; weeks without any are 0."""
        return tuple(self._days_by_week(first_day).values())

    def bucket(self, first_day: WeekStart) -> Bucket | None:
        """Four Keys' bucket (github.com/dora-team/fourkeys, 6cc642e), as Apache DevLake takes it over with weeks from Monday.

        Daily: the median week has 3 deployment days or more. Weekly: the median week has one. Monthly: the median week lies in a month
        with one. The weeks of BigQuery, and so of Four Keys, begin on Sunday.
        """
        if not self.population:
            return None
        weeks = self._days_by_week(first_day)
        months: dict[tuple[int, int], int] = {}
        for week, days in weeks.items():
            months[week.year, week.month] = months.get((week.year, week.month), 0) + min(days, 1)
        if median(weeks.values()) >= 3:
            return "Daily"
        if median(min(days, 1) for days in weeks.values()) >= 1:
            return "Weekly"
        return "Monthly" if median(months[week.year, week.month] for week in weeks) >= 1 else "Yearly"

    def lead_times(self, *, stuck: bool = False) -> LeadTimes:
        """Change lead time: "from committed to version control to deployed in production" (dora.dev), for each commit.

        It ends with the completion of the first completed deployment that has the commit, sought in the whole log, so that a commit which
        lands again is not counted twice; the commit belongs to the window which holds that deployment. With `stuck`, deployments that
        were rolled back do not count, neither for what is first nor for what is counted.
        """
        first: dict[str, tuple[datetime, str]] = {}
        for one in self._own:
            if one.completed_at is None or one.kind == "rollback" or (stuck and self._was_rolled_back(one)):
                continue
            for commit in one.commits:
                first[commit] = min(first.get(commit, (one.completed_at, one.id)), (one.completed_at, one.id))
        committed = self.log.commits or {}
        counted = sorted((*when, commit) for commit, when in first.items() if commit in committed and self.window.holds(when[0]))
        return LeadTimes({commit: completed_at - committed[commit] for completed_at, _, commit in counted})

    def change_fail_rate(self, *, rollbacks_as_deployments: bool = False) -> Share:
        """Change fail rate: deployments that needed "immediate intervention" (dora.dev) out of all.

        Such are those with a failure put down to them, those that were rolled back, aborted or cancelled after they had served users, and
        those that a hotfix or a fix forward remediates. One counts once, however many incidents it had.
        """
        counted = self._counted(rollbacks_as_deployments=rollbacks_as_deployments)
        return Share(tuple(one.id for one in counted if self._failed(one)), len(counted))

    def recoveries(self) -> Recoveries:
        """Failed deployment recovery time: from a failure's begin to its end (dora.dev), for failures of this population's deployments.

        It begins with the impact on users (when that is unknown, with its detection); beside it stand the times from detection and from
        the deployment's end. Each recorded failure has its own time.
        """
        times: dict[Start, list[timedelta]] = {"impact": [], "detection": [], "deployment": []}
        recovered = still_open = 0
        for one in self.population:
            for failure in self._failures.get(one.id, ()):
                if failure.restored_at is None:
                    still_open += 1
                    continue
                recovered += 1
                for start, values in times.items():
                    began = _began(start, failure, one)
                    if began is not None:
                        values.append(failure.restored_at - began)
        unrecorded = tuple(one.id for one in self.population if self._failed(one) and one.id not in self._failures)
        return Recoveries(recovered, still_open, unrecorded, {start: tuple(values) for start, values in times.items()})

    @cached_property
    def still_failing(self) -> tuple[str, ...]:
        """The population's deployments with a failure that is not known to be over."""
        return tuple(one.id for one in self.population if any(known.restored_at is None for known in self._failures.get(one.id, ())))

    def rework_rate(self, *, rollbacks_as_deployments: bool = False) -> Share:
        """Deployment rework rate: unplanned deployments "as a result of an incident in production" (dora.dev) out of all.

        Such are hotfixes, and unplanned ones that remediate another; with `rollbacks_as_deployments` the rollbacks too.
        """
        counted = self._counted(rollbacks_as_deployments=rollbacks_as_deployments)
        rework = (one.id for one in counted if one.kind in ("hotfix", "rollback") or (not one.planned and one.remediates is not None))
        return Share(tuple(rework), len(counted))

    def tracked_fail_rate(self) -> Share:
        """The change fail rate of those who know failures from an incident tracker only."""
        causes = {incident.cause_deployment for incident in self.log.incidents}
        return Share(tuple(one.id for one in self.population if one.id in causes), len(self.population))

    def tracked_recovery_times(self) -> tuple[timedelta, ...]:
        """From opening to resolution of the incidents that a deployment of the population caused; those still open have no time."""
        caused = {one.id for one in self.population}
        return _resolution_times(incident for incident in self._incidents if incident.cause_deployment in caused)

    def naive_recovery_times(self) -> tuple[timedelta, ...]:
        """From opening to resolution of all the window's incidents, whether a deployment caused them or not."""
        return _resolution_times(incident for incident in self._incidents if self.window.holds(incident.opened_at))

    def incidents_per_deployment(self) -> float | None:
        """GitLab's change failure rate: all the window's incidents by all completed deployments, rollbacks included. It can exceed 1."""
        incidents = sum(self.window.holds(incident.opened_at) for incident in self._incidents)
        completed = sum(one.completed_at is not None for one in self._counted(rollbacks_as_deployments=True))
        return _ratio(incidents, completed)

    @cached_property
    def _own(self) -> tuple[Deployment, ...]:
        return tuple(one for one in self.log.deployments if one.service == self.service and one.environment == self.environment)

    @cached_property
    def _incidents(self) -> tuple[Incident, ...]:
        """All but those that another service or environment caused, by their opening."""
        foreign = {one.id for one in self.log.deployments} - {one.id for one in self._own}
        own = (incident for incident in self.log.incidents if incident.cause_deployment not in foreign)
        return tuple(sorted(own, key=lambda incident: (incident.opened_at, incident.id)))

    @cached_property
    def _with_rollbacks(self) -> tuple[Deployment, ...]:
        counted = ((one.ended_at, one.id, one) for one in self._own if self._reason(one) in (None, "rollback"))
        return tuple(one for ended_at, _, one in sorted(_ended(counted)) if self.window.holds(ended_at))

    @cached_property
    def _failures(self) -> Mapping[str, Sequence[Failure]]:
        found: dict[str, list[Failure]] = {}
        for failure in sorted(self.log.failures, key=lambda failure: failure.id):
            if failure.deployment is not None:
                found.setdefault(failure.deployment, []).append(failure)
        return found

    @cached_property
    def _remedies(self) -> Mapping[str, Sequence[Deployment]]:
        """The rollbacks and remedies of each deployment."""
        found: dict[str, list[Deployment]] = {}
        for one in self.log.deployments:
            for cause in {one.rollback_of, one.remediates} - {None}:
                found.setdefault(str(cause), []).append(one)
        return found

    def _counted(self, *, rollbacks_as_deployments: bool) -> tuple[Deployment, ...]:
        return tuple(one for one in self._with_rollbacks if rollbacks_as_deployments or one.kind != "rollback")

    def _reason(self, one: Deployment) -> str | None:
        """Why it is not in the population; None when it is."""
        if one.service != self.service:
            return f"service {one.service}"
        if one.environment != self.environment:
            return one.environment
        if one.kind == "rollback":
            return "rollback"
        if one.ended_at is None:
            return f"never served {self.environment} traffic" if one.outcome else "still under way"
        return None if self.window.holds(one.ended_at) else f"{'completed' if one.completed_at else 'ended'} {self._when(one.ended_at)}"

    def _when(self, at: datetime) -> str:
        if at == self.window.end:
            return "at the exclusive end of the window"
        return "before the window" if at < self.window.start else "after the window"

    def _failed(self, one: Deployment) -> bool:
        return one.outcome in TURNED_BACK or one.id in self._failures or one.id in self._remedies

    def _was_rolled_back(self, one: Deployment) -> bool:
        back = (other.rollback_of == one.id and other.completed_at is not None for other in self._remedies.get(one.id, ()))
        return one.outcome == "rolled_back_after_completion" or any(back)

    def _days_by_week(self, first_day: WeekStart) -> dict[date, int]:
        first = _week_of(self.window.start.astimezone(UTC).date(), first_day)
        last = (self.window.end.astimezone(UTC) - timedelta.resolution).date()
        weeks = {first + timedelta(weeks=number): 0 for number in range((last - first).days // 7 + 1)}
        for day in _completion_days(self.population):
            weeks[_week_of(day, first_day)] += 1
        return weeks


def _ended(found: Iterable[tuple[datetime | None, str, Deployment]]) -> Iterable[tuple[datetime, str, Deployment]]:
    for ended_at, identity, one in found:
        if ended_at is not None:
            yield ended_at, identity, one


def _began(start: Start, failure: Failure, deployment: Deployment) -> datetime | None:
    match start:
        case "impact":
            return failure.impact_started_at or failure.detected_at
        case "detection":
            return failure.detected_at
        case "deployment":
            return deployment.ended_at
        case _:
            assert_never(start)


def _resolution_times(incidents: Iterable[Incident]) -> tuple[timedelta, ...]:
    return tuple(incident.resolved_at - incident.opened_at for incident in incidents if incident.resolved_at is not None)


def _completion_days(deployments: Iterable[Deployment]) -> set[date]:
    return {one.completed_at.astimezone(UTC).date() for one in deployments if one.completed_at is not None}


def _week_of(day: date, first_day: WeekStart) -> date:
    """The first day of its week."""
    return day - timedelta(days=day.weekday() if first_day == "monday" else day.isoweekday() % 7)


def _ratio(numerator: int, denominator: int) -> float | None:
    return numerator / denominator if denominator else None


def _mean(times: Iterable[timedelta]) -> timedelta | None:
    known = list(times)
    return sum(known, timedelta()) / len(known) if known else None


def median_of(times: Iterable[timedelta]) -> timedelta | None:
    """The middle one, or half-way between the two middle ones; None when there is none."""
    known = sorted(times)
    return (known[(len(known) - 1) // 2] + known[len(known) // 2]) / 2 if known else None
