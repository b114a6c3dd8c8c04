"""What users reach is asked; who fails again and again goes back, once, and nobody is promoted until a person looked."""

import json
import socket
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import timedelta

import pytest

from delivery.alert_news import EVENTS
from delivery.errors import DeliveryError, EnvironmentBusy, NotApproved, TransientError
from delivery.journal import Ending
from delivery.plan import plan_rollout
from delivery.release import Release
from delivery.verification import Deed
from flows.promote import ask, carry_out, gate
from flows.rollback import go_back
from flows.telling import Telling
from flows.verification import verify
from tests.flows.conftest import Stage
from tests.tasks.small_server import serving

POLICY = """
[verification]
enabled = true
alert_after = 2
rollback_after = 3
on_failure = "rollback"
"""


class Shop:
    """The public endpoints: health tells the version that the platform calls live; `broken` names releases that answer 503."""

    def __init__(self, stage: Stage) -> None:
        self.stage = stage
        self.broken: set[str] = set()
        self.asked = 0
        self.meanwhile: Callable[[], object] = lambda: None

    def answer(self, _: str) -> tuple[int, str]:
        self.asked += 1
        live = self.stage.production.live or ""
        self.meanwhile()
        return (503, "") if live in self.broken else (200, f'{{"version": "{live[1:].rpartition("-")[0]}"}}')


@pytest.fixture
def shop(stage: Stage) -> Iterator[Shop]:
    file = stage.environments / "production.toml"
    file.write_text(file.read_text() + POLICY)
    shop = Shop(stage)
    with serving(shop.answer) as url:
        stage.production.public_url = url
        yield shop


def look(stage: Stage, *, times: int = 1) -> str:
    said = ""
    for _ in range(times):
        with Telling() as telling:
            said = verify(stage.house, "production", telling=telling, even_if_not_due=True)
    return said


def two_releases(stage: Stage) -> tuple[Release, Release]:
    first, second = stage.published("1.0.0"), stage.published("1.1.0")
    for release in (first, second):
        stage.bring(release, "staging")
        stage.bring(release, "production")
    return first, second


def break_it(stage: Stage, shop: Shop, *releases: Release) -> None:
    """Once it was seen well."""
    assert look(stage) == "Production is well."
    shop.broken = {release.id for release in releases}


def told(stage: Stage) -> list[str]:
    """Every phase of what was alerted of, in the order in which it was put: sentence and next step, or what ended it."""
    events = [json.loads(text) for _, key, text, _ in stage.house.store.unsent_notices() if key.startswith(f"{EVENTS}/production/")]
    payloads = [event["payload"] for event in events if "look" in event["payload"]["key"]]
    return [payload["ending"] or f"{payload['sentence']} {payload['next']}" for payload in payloads]


@pytest.fixture(autouse=True)
def nothing_is_sent(monkeypatch: pytest.MonkeyPatch) -> None:
    """Notices stay in the outbox, where a test can count them."""
    monkeypatch.setattr("flows.verification.send_notices", lambda *_: 0)
    monkeypatch.setattr("flows.telling.send_notices", lambda *_: 0)


def test_what_is_well_is_said_and_kept(stage: Stage, shop: Shop) -> None:
    _, second = two_releases(stage)
    assert look(stage) == "Production is well."
    last = stage.house.store.last_verification("production")
    assert last
    assert (last.number, last.rollout, last.release) == (1, "production-2", second.id)
    assert [(one.endpoint, one.outcome) for one in last.findings] == [("GET /health", "well")]
    assert (told(stage), shop.asked) == ([], 1)


def test_who_fails_again_and_again_is_told_once_and_then_goes_back(stage: Stage, shop: Shop) -> None:
    first, second = two_releases(stage)
    break_it(stage, shop, second)
    assert look(stage) == "Production fails, 1 in a row so far: GET /health."
    assert look(stage).startswith("Production fails, and people are told: GET /health: it answered 503, expected 200 (2 times in a row).")
    assert len(told(stage)) == 1
    assert look(stage).startswith("Production runs v1.0.0. It went back by itself: GET /health")
    [record, *_] = stage.house.store.rollouts(environment="production")
    assert (record.kind, record.ending, record.release) == ("rollback", Ending.LIVE, first.id)
    assert record.by == "canary-verification: GET /health: it answered 503, expected 200 (3 times in a row)."
    assert stage.production.live == first.id
    assert look(stage, times=2) == "Production is well."
    alert, back, well = told(stage)
    assert alert.startswith("Production fails under v1.1.0: GET /health")
    assert "It goes back by itself if that happens 1 more time in a row." in alert
    assert "held until a person has looked: `greenroom unhold production`" in back
    assert well == "Every endpoint answers as it should."


def test_nothing_is_rolled_back_twice(stage: Stage, shop: Shop) -> None:
    oldest = stage.published("0.9.0")
    stage.bring(oldest, "production")
    first, second = two_releases(stage)
    break_it(stage, shop, oldest, first, second)
    look(stage, times=3)
    assert stage.production.live == first.id
    look(stage, times=10)
    assert stage.production.live == first.id
    assert [record.kind for record in stage.house.store.rollouts(environment="production")].count("rollback") == 1
    last = stage.house.store.last_verification("production")
    assert last
    assert (last.deed, last.failing[0].failures) == (Deed.NOTHING, 10)


def test_a_flapping_endpoint_stays(stage: Stage, shop: Shop) -> None:
    _, second = two_releases(stage)
    for _ in range(6):
        shop.broken = {second.id}
        look(stage, times=2)
        shop.broken = set()
        look(stage)
    assert stage.production.live == second.id
    assert stage.house.store.hold_on("production") is None


def test_a_version_that_is_not_the_live_one_is_a_failure(stage: Stage, shop: Shop) -> None:
    two_releases(stage)
    shop.answer = lambda _: (200, '{"version": "1.0.0"}')  # type: ignore[method-assign]
    with serving(shop.answer) as url:
        stage.production.public_url = url
        look(stage)
    last = stage.house.store.last_verification("production")
    assert last
    assert last.findings[0].detail == "it answered version 1.0.0, expected 1.1.0."


def test_only_people_are_told_where_the_policy_says_so(stage: Stage, shop: Shop, edit_environment: Callable[[str, str, str], None]) -> None:
    edit_environment("production", 'on_failure = "rollback"', 'on_failure = "alert"')
    _, second = two_releases(stage)
    break_it(stage, shop, second)
    look(stage, times=8)
    assert stage.production.live == second.id
    [alert] = told(stage)
    assert alert.endswith("It stays as it is. look at it; to go back: `greenroom rollback production`.")


def test_the_first_release_stays_and_people_hear_why(stage: Stage, shop: Shop) -> None:
    only = stage.published("1.0.0")
    stage.bring(only, "production")
    break_it(stage, shop, only)
    look(stage, times=5)
    assert stage.production.live == only.id
    [alert] = told(stage)
    assert "It does not go back by itself: nothing was live before it." in alert


def test_who_comes_to_mend_it_is_not_sent_back_for_what_failed_before(stage: Stage, shop: Shop) -> None:
    _, second = two_releases(stage)
    third = stage.published("1.2.0")
    break_it(stage, shop, second, third)
    look(stage, times=2)
    stage.bring(third, "production")
    look(stage, times=8)
    assert stage.production.live == third.id
    assert stage.house.store.hold_on("production") is None


def test_what_was_never_seen_well_is_left_to_people(stage: Stage, shop: Shop) -> None:
    _, second = two_releases(stage)
    shop.broken = {second.id}  # as by a public address that is misspelt
    look(stage, times=8)
    assert stage.production.live == second.id
    [alert] = told(stage)
    assert "GET /health was not seen well since before the live release came" in alert


def test_failures_that_are_old_are_left_to_people(stage: Stage, shop: Shop, monkeypatch: pytest.MonkeyPatch) -> None:
    _, second = two_releases(stage)
    break_it(stage, shop, second)
    look(stage, times=2)
    later = stage.house.store.now() + timedelta(minutes=21)
    monkeypatch.setattr(type(stage.house.store), "now", lambda _: later)
    look(stage, times=3)
    assert stage.production.live == second.id


@contextmanager
def under_way(stage: Stage, release: Release) -> Iterator[str]:
    store = stage.house.store
    plan = plan_rollout(
        release, stage.house.environment("production"), capabilities=stage.production.capabilities, blue=store.live("production")
    )
    lease = store.acquire("production", holder="a walker", purpose="a rollout", ttl=timedelta(seconds=60))
    yield store.open_rollout(lease, plan, by="Ann")


def test_nobody_is_asked_while_a_rollout_is_under_way(stage: Stage, shop: Shop) -> None:
    _, second = two_releases(stage)
    break_it(stage, shop, second)
    look(stage, times=2)
    with under_way(stage, stage.published("1.2.0")) as rollout:
        assert look(stage, times=3) == f"Production is not asked while {rollout} is under way."
    assert stage.production.live == second.id
    assert shop.asked == 3


def test_answers_from_the_middle_of_a_change_do_not_count(stage: Stage, shop: Shop) -> None:
    two_releases(stage)
    third = stage.published("1.2.0")

    def begin() -> None:
        shop.meanwhile = lambda: None
        with under_way(stage, third):
            pass

    shop.meanwhile = begin
    assert look(stage) == "Production began to change while it was asked; the answers do not count."
    assert stage.house.store.last_verification("production") is None


def test_of_two_looks_at_once_one_counts(stage: Stage, shop: Shop) -> None:
    _, second = two_releases(stage)
    break_it(stage, shop, second)

    def look_too() -> None:
        shop.meanwhile = lambda: None
        look(stage)

    shop.meanwhile = look_too
    assert look(stage) == "Production is verified by somebody else at this moment."
    last = stage.house.store.last_verification("production")
    assert last
    assert (last.number, last.failing[0].failures) == (2, 1)


def test_who_comes_meanwhile_is_not_sent_back_for_another(stage: Stage, shop: Shop, monkeypatch: pytest.MonkeyPatch) -> None:
    _, second = two_releases(stage)
    third = stage.published("1.2.0")
    break_it(stage, shop, second)
    look(stage, times=2)

    def late(house: object, *arguments: object, **named: object) -> object:
        stage.house.store.let_go_on("production", by="Bea", reason="1.2.0 mends it")
        stage.bring(third, "production")
        return go_back(house, *arguments, **named)  # type: ignore[arg-type]

    monkeypatch.setattr("flows.verification.go_back", late)
    with pytest.raises(NotApproved, match=r"It does not go back by itself: production-3 came meanwhile"):
        look(stage)
    assert stage.production.live == third.id


def test_an_environment_that_is_busy_goes_back_at_the_next_look(stage: Stage, shop: Shop, monkeypatch: pytest.MonkeyPatch) -> None:
    first, second = two_releases(stage)
    break_it(stage, shop, second)
    look(stage, times=2)

    def busy(*_: object, **__: object) -> object:
        raise EnvironmentBusy("Production is busy.", next="wait.")

    with monkeypatch.context() as patched:
        patched.setattr("flows.verification.go_back", busy)
        with pytest.raises(EnvironmentBusy):
            look(stage)
    assert stage.house.store.hold_on("production")  # written ahead
    assert look(stage).startswith("Production runs v1.0.0. It went back by itself: GET /health")
    assert stage.production.live == first.id


def test_a_way_back_that_fails_is_a_failed_run_and_is_not_tried_again(stage: Stage, shop: Shop) -> None:
    _, second = two_releases(stage)
    break_it(stage, shop, second)
    look(stage, times=2)
    stage.production.fail("promote", 3, DeliveryError("The platform refused.", next="look."))
    with pytest.raises(DeliveryError, match="Production"):
        look(stage)
    opened = len(stage.house.store.rollouts(environment="production"))
    look(stage, times=4)
    assert len(stage.house.store.rollouts(environment="production")) == opened
    assert stage.production.live == second.id


def gone_back(stage: Stage, shop: Shop) -> Release:
    _, second = two_releases(stage)
    break_it(stage, shop, second)
    look(stage, times=3)
    return second


def test_no_release_is_promoted_after_it_until_a_person_says_so(stage: Stage, shop: Shop) -> None:
    gone_back(stage, shop)
    mended = stage.on_staging("1.2.0")
    for kind in ("normal", "hotfix"):
        with pytest.raises(NotApproved, match=r"held since .* by canary-verification.*greenroom unhold production"):
            ask(stage.house, mended.id, "production", kind, key=kind)  # type: ignore[arg-type]
    assert stage.house.store.requests(environment="production") == []
    with pytest.raises(NotApproved, match="held since"):
        stage.bring(mended, "production")  # whoever does not come by a request
    ended = stage.house.store.let_go_on("production", by="Bea", reason="1.2.0 mends it")
    assert ended
    assert ended.by == "canary-verification"
    assert stage.bring(mended, "production").ending is Ending.LIVE


def test_a_request_that_waited_is_ended_when_its_answer_comes(stage: Stage, shop: Shop) -> None:
    _, second = two_releases(stage)
    waiting = ask(stage.house, stage.on_staging("1.2.0").id, "production", "hotfix", key="run-1")
    break_it(stage, shop, second)
    look(stage, times=3)
    with Telling() as telling, pytest.raises(NotApproved, match="promotions to production are held by canary-verification"):
        carry_out(stage.house, waiting, telling, approved_by=gate(stage.house, waiting, telling))
    assert stage.house.store.request(waiting.number).closed


def test_staging_and_a_persons_way_back_are_not_held(stage: Stage, shop: Shop) -> None:
    oldest = stage.published("0.9.0")
    stage.bring(oldest, "production")
    gone_back(stage, shop)
    stage.on_staging("1.2.0")
    with Telling() as telling:
        go_back(stage.house, "production", version=None, reason="still ill", by="Bea", telling=telling)
    assert stage.production.live == oldest.id


def test_unknown_answers_do_nothing(stage: Stage, shop: Shop, monkeypatch: pytest.MonkeyPatch) -> None:
    def nobody_knows(*_: object, **__: object) -> object:
        raise socket.gaierror(socket.EAI_AGAIN, "Temporary failure in name resolution")

    _, second = two_releases(stage)
    monkeypatch.setattr(socket, "getaddrinfo", nobody_knows)
    assert "could not resolve" in look(stage, times=5)
    assert stage.production.live == second.id
    assert (told(stage), shop.asked) == ([], 0)


def test_a_journal_that_is_away_is_neither_good_nor_bad(stage: Stage, shop: Shop, monkeypatch: pytest.MonkeyPatch) -> None:
    _, second = two_releases(stage)
    break_it(stage, shop, second)
    look(stage, times=2)

    def away(*_: object, **__: object) -> object:
        raise TransientError("The journal's database does not answer.", next="start it.")

    with monkeypatch.context() as patched:
        patched.setattr(type(stage.house.store), "add_verification", away)
        with pytest.raises(TransientError):
            look(stage)
    assert stage.production.live == second.id
    last = stage.house.store.last_verification("production")
    assert last
    assert last.failing[0].failures == 2


def test_the_interval_of_the_environment_decides_what_is_due(stage: Stage, shop: Shop) -> None:
    two_releases(stage)
    for said in ("Production is well.", "Production was asked a moment ago."):
        with Telling() as telling:
            assert verify(stage.house, None, telling=telling) == said  # staging's file says nothing of it
    assert shop.asked == 1


def test_an_environment_that_cannot_be_asked_does_not_keep_the_others_waiting(stage: Stage, shop: Shop) -> None:
    two_releases(stage)
    (stage.environments / "broken.toml").write_text("[environment]\nname = 7\n")
    with Telling() as telling, pytest.raises(DeliveryError, match=r"broken\.toml.*Production is well\."):
        verify(stage.house, None, telling=telling)
    assert shop.asked == 1


def test_a_target_without_a_public_address_is_refused(stage: Stage, shop: Shop) -> None:
    two_releases(stage)
    stage.production.public_url = None
    with pytest.raises(DeliveryError, match="its target has no public_url"):
        look(stage)
    assert shop.asked == 0
