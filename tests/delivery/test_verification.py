"""Stories of an endpoint that fails, and what comes of each. W is well, S is sick, U is unknown; one look a minute."""

from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import Literal

import pytest

from delivery.application import Service, Smoke
from delivery.environment import VerificationSettings
from delivery.journal import Ending
from delivery.record import RolloutRecord
from delivery.verification import Answer, Deed, Endpoint, Finding, Verdict, Verification, endpoints, is_due, judge_answers, told
from tests.samples import a_release, an_environment

START = datetime(2026, 7, 1, 10, tzinfo=UTC)
BACK = VerificationSettings(enabled=True, alert_after=3, rollback_after=5, on_failure="rollback")
ALERT = replace(BACK, on_failure="alert")


def a_record(number: int, **changes: object) -> RolloutRecord:
    fields: dict[str, object] = {
        "id": f"production-{number}",
        "environment": "production",
        "release": f"v1.{number}.0-aaaaaaaa",
        "version": f"1.{number}.0",
        "blue": None,
        "kind": "normal",
        "by": "Ann",
        "opened_at": START - timedelta(days=1) + timedelta(hours=number),
        "promoted_at": START - timedelta(days=1) + timedelta(hours=number),
        "ended_at": START - timedelta(days=1) + timedelta(hours=number),
        "ending": Ending.LIVE,
    }
    return RolloutRecord(**{**fields, **changes})  # type: ignore[arg-type]


FIRST, SECOND = a_record(1), a_record(2)
TWO = (SECOND, FIRST)
BY_ROLLBACK = a_record(3, kind="rollback")
FORWARD_OPEN = a_record(3, promoted_at=None, ended_at=None, ending=None)
TURNED_BACK = a_record(3, promoted_at=None, ending=Ending.ROLLED_BACK)
NEEDS_HUMAN = a_record(3, promoted_at=None, ending=Ending.NEEDS_HUMAN)
TRIED = a_record(3, kind="rollback", promoted_at=None, ending=Ending.ROLLED_BACK)

OUTCOMES: dict[str, Literal["well", "sick", "unknown"]] = {"W": "well", "S": "sick", "U": "unknown"}
DEEDS = {Deed.NOTHING: ".", Deed.ALERT: "A", Deed.WELL_AGAIN: "w", Deed.GO_BACK: "B"}


def play(
    stories: tuple[str, ...],
    *,
    policy: VerificationSettings = BACK,
    records: tuple[RolloutRecord, ...] = TWO,
    has_previous: bool = True,
    seconds: float = 60,
    seen_well: bool = True,
    came: str | None = None,
) -> list[Verdict]:
    """Each story is one endpoint's; all are asked at each look. Before it all were well (unless `seen_well` is False)."""
    verdicts = []
    well = tuple(Finding(f"GET /{index}", "well", "", proven=True) for index in range(len(stories)))
    before = Verification("production", 0, START, came or SECOND.id, "x", well, Deed.NOTHING, "", alerted=False) if seen_well else None
    for number, letters in enumerate(zip(*stories, strict=True), start=1):
        now = START + timedelta(seconds=seconds * number)
        answers = [Answer(f"GET /{index}", OUTCOMES[letter], "it answered 503.") for index, letter in enumerate(letters)]
        verdict = judge_answers(policy, before, answers, records=records, has_previous=has_previous, now=now)
        verdicts.append(verdict)
        promotion = next(record for record in records if record.promoted_at)
        before = Verification(
            "production", number, now, promotion.id, promotion.release, verdict.findings, verdict.deed, verdict.reason, verdict.alerted
        )
    return verdicts


def deeds(*stories: str, **world: object) -> str:
    return "".join(DEEDS[verdict.deed] for verdict in play(stories, **world))  # type: ignore[arg-type]


CASES: list[tuple[str, tuple[str, ...], dict[str, object], str]] = [
    ("well is nothing", ("WWWW",), {}, "...."),
    ("one failure is nothing", ("WSWW",), {}, "...."),
    ("the third in a row tells people, the fifth goes back", ("SSSSS",), {}, "..A.B"),
    ("people are told once while it goes on", ("SSSSSSSSS",), {"policy": ALERT}, "..A......"),
    ("and once that it is well again", ("SSSWWW",), {}, "..Aw.."),
    ("and anew when it fails anew", ("SSSWSSS",), {}, "..Aw..A"),
    ("well again is not said of what nobody was told", ("SSWW",), {}, "...."),
    ("a flapping endpoint never goes back", ("SW" * 20,), {}, "." * 40),
    ("nor one that flaps slowly", ("SSSSW" * 6,), {}, "..A.w" * 6),
    ("two endpoints that flap in turn are not one that fails", ("SW" * 10, "WS" * 10), {}, "." * 20),
    ("two that fail one after the other neither", ("SSSWWW", "WWWSSS"), {}, "..A..."),
    ("one of two endpoints suffices", ("WWWWW", "SSSSS"), {}, "..A.B"),
    ("one that is well again is not all", ("SSSW", "SSSS"), {}, "..A."),
    ("unknown is neither good: it breaks no row", ("SSUSUSS",), {}, "...A..B"),
    ("nor bad: it adds nothing", ("SSUUUUUUU",), {}, "........."),
    ("unknown is not well again", ("SSSUUW",), {}, "..A..w"),
    ("all unknown for ever is nothing", ("U" * 30,), {}, "." * 30),
    ("by policy people only are told", ("SSSSSSS",), {"policy": ALERT}, "..A...."),
    ("a rollback is never rolled back", ("SSSSSSS",), {"records": (BY_ROLLBACK, *TWO)}, "..A...."),
    ("nothing is live before it", ("SSSSSSS",), {"has_previous": False}, "..A...."),
    ("while a rollout is under way", ("SSSSSSS",), {"records": (FORWARD_OPEN, *TWO)}, "..A...."),
    ("an environment that needs a person is left to one", ("SSSSSSS",), {"records": (NEEDS_HUMAN, *TWO)}, "..A...."),
    ("a later rollout that was turned back is no obstacle", ("SSSSS",), {"records": (TURNED_BACK, *TWO)}, "..A.B"),
    ("a way back that did not come through is not tried again", ("SSSSSSS",), {"records": (TRIED, *TWO)}, "..A...."),
    ("a rollback long before the newest promotion is no obstacle", ("SSSSS",), {"records": (a_record(4), TRIED, *TWO)}, "..A.B"),
    ("failures that began more than 20 minutes ago are left to people", ("SSSSSSS",), {"seconds": 301}, "..A...."),
    ("exactly 20 minutes are not more", ("SSSSS",), {"seconds": 300}, "..A.B"),
    ("what was never seen well is left to people", ("SSSSSSS",), {"seen_well": False}, "..A...."),
    ("until it was well once", ("SWSSSSS",), {"seen_well": False}, "....A.B"),
    ("unknown is not seen well", ("USSSSSSS",), {"seen_well": False}, "...A...."),
    ("what was well when the live release came may bring it back", ("SSSSS",), {"came": FIRST.id}, "..A.B"),
    ("both at once: going back tells people by itself", ("SSSS",), {"policy": replace(BACK, alert_after=3, rollback_after=3)}, "..BB"),
]


@pytest.mark.parametrize(("stories", "world", "expected"), [case[1:] for case in CASES], ids=[case[0] for case in CASES])
def test_what_comes_of_it_is_what_its_case_says(stories: tuple[str, ...], world: dict[str, object], expected: str):
    assert deeds(*stories, **world) == expected


def test_a_promotion_begins_the_count_anew_and_keeps_what_people_were_told():
    *_, last = play(("SSSS",))
    before = Verification("production", 4, START, SECOND.id, SECOND.release, last.findings, last.deed, "", last.alerted)
    sick = [Answer("GET /0", "sick", "it answered 503.")]
    world = {"records": (a_record(3), *TWO), "has_previous": True, "now": START}
    verdict = judge_answers(BACK, before, sick, **world)  # type: ignore[arg-type]
    assert ([one.failures for one in verdict.findings], verdict.deed, verdict.alerted) == ([1], Deed.NOTHING, True)
    assert not verdict.findings[0].proven  # it failed before the release came, which may be just what mends it
    well = judge_answers(BACK, before, [Answer("GET /0", "well", "it answered 200.")], **world)  # type: ignore[arg-type]
    assert well.deed is Deed.WELL_AGAIN


def test_an_alert_says_why_nobody_goes_back_by_itself():
    verdict = play(("SSS",), records=(BY_ROLLBACK, *TWO))[-1]
    assert verdict.obstacle == "production-3 was itself a rollback, and a rollback is never rolled back"
    assert verdict.reason == "GET /0: it answered 503 (3 times in a row)."
    assert play(("SSS",), records=(BY_ROLLBACK, *TWO), policy=ALERT)[-1].obstacle is None


def test_a_finding_tells_since_when_it_fails():
    findings = [verdict.findings[0] for verdict in play(("SUSW",))]
    began = START + timedelta(seconds=60)
    assert [(one.outcome, one.failures, one.since) for one in findings] == [
        ("sick", 1, began),
        ("unknown", 1, began),
        ("sick", 2, began),
        ("well", 0, None),
    ]
    assert told(findings[2:3]) == "GET /0: it answered 503 (2 times in a row)."


@pytest.mark.parametrize(("seconds", "due"), [(29, False), (30, True), (60, True), (3600, True)])
def test_a_schedule_that_wakes_a_little_early_does_not_lose_a_turn(seconds: float, *, due: bool):
    before = Verification("production", 1, START, "production-2", "x", (), Deed.NOTHING, "", alerted=False)
    assert is_due(BACK, before, now=START + timedelta(seconds=seconds)) is due
    assert is_due(BACK, None, now=START)


def test_a_longer_interval_is_kept():
    before = Verification("production", 1, START, "production-2", "x", (), Deed.NOTHING, "", alerted=False)
    slow = replace(BACK, interval_seconds=300)
    assert [is_due(slow, before, now=START + timedelta(seconds=at)) for at in (240, 269, 270, 300)] == [False, False, True, True]


def web(name: str, *routes: str, health: str) -> Service:
    return Service(name, "web", ".", "Dockerfile", port=80, routes=routes, health=health)


def test_smoke_requests_and_health_paths_are_asked_each_once_and_health_must_tell_the_live_version():
    release = a_release("1.1.0", smoke=(Smoke("api", "/api/listings", contains="id"), Smoke("api", "/health", contains="ok")))
    assert endpoints(release) == (Endpoint("/api/listings", 200, "id"), Endpoint("/health", 200, "ok", "1.1.0"))


def test_what_may_write_is_not_asked_of_what_users_reach():
    release = a_release("1.1.0", smoke=(Smoke("api", "/api/jobs", method="POST", body={"key": "{unique}"}), Smoke("api", "/api/listings")))
    assert [endpoint.path for endpoint in endpoints(release)] == ["/api/listings", "/health"]


def test_a_health_path_that_users_requests_do_not_reach_is_not_asked():
    services = (web("api", "/api", "/health", health="/health"), web("web", "/", health="/health"), web("docs", "/docs", health="/up"))
    images = dict.fromkeys(("api", "web", "docs"), next(iter(a_release().images.values())))
    release = a_release("1.1.0", services=services, images=images, smoke=(), migrations=None, hooks=())
    assert [endpoint.path for endpoint in endpoints(release)] == ["/health"]


@pytest.mark.parametrize(
    ("changes", "told_as"),
    [
        ({"interval_seconds": 0.0}, "verification.interval_seconds: got 0, expected more than 0"),
        ({"timeout_seconds": -1.0}, "verification.timeout_seconds: got -1, expected more than 0"),
        ({"newest_seconds": 0.0}, "verification.newest_seconds: got 0, expected more than 0"),
        ({"alert_after": 0}, "verification.alert_after: got 0, expected 1 or more"),
        ({"alert_after": 1, "rollback_after": 1}, "verification.rollback_after: got 1, expected 2 or more"),
        ({"alert_after": 4, "rollback_after": 3}, "verification.rollback_after: got 3, expected 4 or more"),
        ({"interval_seconds": 300.0}, "verification.newest_seconds: got 1200, expected more than the 1200 s until the last failure"),
    ],
)
def test_a_policy_that_cannot_be_meant_is_refused(changes: dict[str, object], told_as: str):
    assert an_environment(verification=replace(BACK, **changes)).problems() == (told_as,)  # type: ignore[arg-type]


def test_a_policy_that_only_tells_people_may_look_as_seldom_as_it_likes():
    assert an_environment(verification=replace(ALERT, interval_seconds=3600.0)).problems() == ()
