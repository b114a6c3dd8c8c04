"""From the journal to what DORA counts: each rollout's story, and what people and monitors reported of it later.

The services of one release move as one unit, so what DORA calls a service is the application. Nobody needs an incident tracker: a rollout
that was turned back under traffic, a rollback and a hotfix tell of a failure by themselves; what is reported adds to it.
"""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import datetime
from typing import NamedTuple

from delivery.dora import Deliveries, Deployment, Failure, Incident, Log, Outcome, Window
from delivery.environment import Kind
from delivery.journal import Ending, Finished, Promoted, Started, TurnedBack
from delivery.plan import StepKind
from delivery.record import IncidentFact
from delivery.source import Commit

_FIRST_SHARE, _ALL_TRAFFIC = f"{StepKind.SHIFT}-", f"{StepKind.SHIFT}-100"
_STARTED, _FINISHED, _PROMOTED, _TURNED_BACK = (kind.__name__ for kind in (Started, Finished, Promoted, TurnedBack))


class Mark(NamedTuple):
    """One entry of a rollout, as far as it tells anything here: `kind` is the event's class name, `well` a finished step's."""

    at: datetime
    kind: str
    step: str | None = None
    well: bool | None = None


@dataclass(frozen=True)
class Story:
    """One rollout as the journal tells it. `marks` are in the order in which they were written; `release` and `blue` are ids; `commits` are
    those that production had not seen when the release was made; `ending` None: it is under way.
    """

    id: str
    environment: str
    service: str
    release: str
    blue: str | None
    kind: Kind
    opened_at: datetime
    marks: tuple[Mark, ...]
    commits: tuple[Commit, ...] = ()
    planned: bool = True
    remediates: str | None = None
    ending: Ending | None = None


@dataclass(frozen=True)
class Facts:
    """Everything that is known, by environment and service, and the incidents by environment: where nobody reported any, only what the
    pipeline saw is known.
    """

    logs: Mapping[tuple[str, str], Log]
    incidents: Mapping[str, tuple[Incident, ...]]

    @property
    def places(self) -> tuple[tuple[str, str], ...]:
        """Environment and service of everything that is known, in order."""
        return tuple(sorted(self.logs))

    def deliveries(self, environment: str, service: str, window: Window) -> Deliveries:
        return Deliveries(self.logs[environment, service], window, service, environment)

    def coverage(self, environment: str) -> str:
        return "pipeline and reported incidents" if self.incidents.get(environment) else "pipeline only"


@dataclass(frozen=True)
class _Course:
    """What a story comes to. `troubled_at`: when it turned, or a step after the promotion was found sick."""

    story: Story
    traffic_at: datetime | None
    completed_at: datetime | None
    troubled_at: datetime | None
    restored_at: datetime | None
    is_promoted: bool
    was_stopped: bool

    @property
    def outcome(self) -> Outcome | None:
        """None while nobody knows: it is under way, and well so far."""
        if self.troubled_at is None and self.story.ending is None:
            return None
        if self.traffic_at is None:
            return "cancelled" if self.was_stopped else "failed_before_traffic"
        if self.completed_at is None:
            return "cancelled" if self.was_stopped else "aborted_in_canary"
        return "succeeded" if self.is_promoted or self.troubled_at is None else "rolled_back_after_completion"


def facts_of(stories: Iterable[Story], reports: Iterable[IncidentFact] = ()) -> Facts:
    """Deployments and failures as `delivery.dora` counts them. The order of stories does not matter; of reports on one incident the newest
    word (the highest number) counts, however late it comes.
    """
    courses = [_course(story) for story in sorted(stories, key=lambda story: (story.opened_at, story.id))]
    incidents = _incidents(sorted(reports, key=lambda report: report.number))
    undone = _rolled_back(courses)
    seen_before = _seen_before(courses)
    failures = _failures(courses, incidents, undone)
    by_environment = {
        place: tuple(one.incident for one in incidents if one.environment == place) for place in {one.environment for one in incidents}
    }
    there: dict[tuple[str, str], list[_Course]] = {}
    for course in courses:
        there.setdefault((course.story.environment, course.story.service), []).append(course)
    logs = {
        place: Log(
            deployments=[_deployment(course, seen_before.get(place, frozenset()), undone) for course in those],
            commits={commit.sha: commit.committed_at for course in those for commit in course.story.commits},
            failures=[failure for course in those for failure in failures.get(course.story.id, ())],
            incidents=by_environment.get(place[0], ()),
        )
        for place, those in there.items()
    }
    return Facts(logs, by_environment)


def _deployment(course: _Course, seen_before: frozenset[str], undone: Mapping[str, str]) -> Deployment:
    story = course.story
    has_commits = story.blue is not None and story.kind != "rollback"
    return Deployment(
        id=story.id,
        service=story.service,
        environment=story.environment,
        kind=story.kind,
        started_at=story.opened_at,
        traffic_started_at=course.traffic_at,
        completed_at=course.completed_at,
        outcome=course.outcome,
        commits=tuple(commit.sha for commit in story.commits if commit.sha not in seen_before) if has_commits else (),
        planned=story.planned,
        rollback_of=undone.get(story.id),
        remediates=story.remediates,
    )


def _course(story: Story) -> _Course:
    """Users are counted from the moment at which the first share was about to move: they may have been there from then on."""
    traffic_at = completed_at = troubled_at = restored_at = None
    is_promoted = was_stopped = False
    for mark in story.marks:
        if mark.kind == _PROMOTED:
            is_promoted = True
        elif mark.kind == _TURNED_BACK:
            was_stopped = was_stopped or troubled_at is None
            troubled_at = troubled_at or mark.at
        elif mark.kind == _STARTED:
            if (mark.step or "").startswith(_FIRST_SHARE):
                traffic_at = traffic_at or mark.at
        elif mark.kind != _FINISHED:
            continue
        elif not mark.well:
            troubled_at = troubled_at or mark.at
        elif mark.step == _ALL_TRAFFIC:
            completed_at = mark.at
        elif mark.step == StepKind.RESTORE:
            restored_at = mark.at
    return _Course(story, traffic_at, completed_at, troubled_at, restored_at, is_promoted, was_stopped)


def _seen_before(courses: Iterable[_Course]) -> Mapping[tuple[str, str], frozenset[str]]:
    """The commits of each environment's very first release: there was nothing before it to compare with, and no lead time to measure."""
    first = [course.story for course in courses if course.story.blue is None]
    return {(story.environment, story.service): frozenset(commit.sha for commit in story.commits) for story in reversed(first)}


def _rolled_back(courses: Sequence[_Course]) -> Mapping[str, str]:
    """By rollback: the rollout that had brought the release it went back from."""
    brought: dict[tuple[str, str], str] = {}
    found = {}
    for course in courses:
        story = course.story
        if story.kind == "rollback" and story.blue and (cause := brought.get((story.environment, story.blue))):
            found[story.id] = cause
        if course.is_promoted and story.kind != "rollback":
            brought[story.environment, story.release] = story.id
    return found


@dataclass(frozen=True)
class _Reported:
    environment: str
    incident: Incident
    impact_started_at: datetime | None


def _incidents(words: Iterable[IncidentFact]) -> tuple[_Reported, ...]:
    found: dict[int, _Reported] = {}
    for word in words:
        if word.kind == "opened":
            incident = Incident(str(word.incident), word.rollout, word.at, None)
            found[word.incident] = _Reported(word.environment, incident, word.impact_started_at)
        elif before := found.get(word.incident):
            changed = {"cause_deployment": word.rollout} if word.kind == "attributed" else {"resolved_at": word.at}
            found[word.incident] = replace(before, incident=replace(before.incident, **changed))
    return tuple(found.values())


class _Span(NamedTuple):
    """Something wrong with one deployment, from `began`; `ended` None: it is not over."""

    began: datetime
    impact_started_at: datetime | None
    detected_at: datetime
    ended: datetime | None


def _failures(courses: Sequence[_Course], incidents: Iterable[_Reported], undone: Mapping[str, str]) -> Mapping[str, Sequence[Failure]]:
    """By deployment. What overlaps is one failure: suffered and noticed as early as anybody says, over as early as anything ended it."""
    known: dict[str, list[_Span]] = {}
    ends = _next_completions(courses)
    for course in courses:
        story = course.story
        if course.troubled_at and course.traffic_at and story.kind != "rollback":
            ended = course.restored_at or ends.get(story.id)
            known.setdefault(story.id, []).append(_Span(course.troubled_at, None, course.troubled_at, ended))
        for cause in {undone.get(story.id), story.remediates} - {None}:
            known.setdefault(str(cause), []).append(_Span(story.opened_at, None, story.opened_at, course.completed_at))
    for told in incidents:
        incident = told.incident
        if cause := incident.cause_deployment:
            began = told.impact_started_at or incident.opened_at
            known.setdefault(cause, []).append(_Span(began, told.impact_started_at, incident.opened_at, incident.resolved_at))
    return {
        cause: [
            Failure(f"{cause}/{number}", cause, span.impact_started_at, span.detected_at, span.ended)
            for number, span in enumerate(_merged(spans), start=1)
        ]
        for cause, spans in known.items()
    }


def _merged(spans: Iterable[_Span]) -> Iterator[_Span]:
    """What began before the one before it was over is the same failure."""
    current: _Span | None = None
    for span in sorted(spans, key=lambda span: (span.began, span.detected_at)):
        if current is None:
            current = span
        elif current.ended is None or span.began < current.ended:
            current = _Span(
                current.began,
                _earliest(current.impact_started_at, span.impact_started_at),
                min(current.detected_at, span.detected_at),
                _earliest(current.ended, span.ended),
            )
        else:
            yield current
            current = span
    if current is not None:
        yield current


def _next_completions(courses: Sequence[_Course]) -> Mapping[str, datetime]:
    """By rollout, when the next one of its place had all of the traffic: what needs a person is over then at the latest."""
    found: dict[str, datetime] = {}
    later: dict[tuple[str, str], datetime] = {}
    for course in reversed(courses):
        place = course.story.environment, course.story.service
        if place in later:
            found[course.story.id] = later[place]
        if course.completed_at:
            later[place] = course.completed_at
    return found


def _earliest(*moments: datetime | None) -> datetime | None:
    return min((moment for moment in moments if moment), default=None)
