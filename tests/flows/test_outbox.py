"""The journal's outbox and Slack together: nothing is lost, nothing holds a release up, one message per key."""

import os
import pickle
import signal
import subprocess
import sys
from collections.abc import Iterator
from datetime import timedelta
from pathlib import Path

import pytest
from pydantic import SecretStr
from sqlalchemy import update

from blocks.journal import SqlJournal
from blocks.journal_tables import outboxes
from blocks.notifier import SlackNotifier
from delivery.approval import Approval
from delivery.errors import TryLater, Undeliverable
from delivery.journal import Ending
from delivery.notices import LONGEST_PAUSE, pause_after
from delivery.plan import plan_rollout
from flows.recover import close_unanswered_requests
from flows.telling import send_notices
from tests.flows.conftest import Remembering, Stage
from tests.slack_server import TOKEN, Slack, slack_server

HOME = Path(__file__).resolve().parents[2]
MINUTE = timedelta(minutes=1)


@pytest.fixture
def slack() -> Iterator[Slack]:
    with slack_server() as state:
        yield state


def a_bot(slack: Slack, store: SqlJournal) -> SlackNotifier:
    bot = SlackNotifier(token=SecretStr(TOKEN), channel="#releases", api_url=f"{slack.url}api/", escalate_to="here")
    bot.remember_in(store)
    return bot


@pytest.fixture
def told(stage: Stage, slack: Slack, edit_environment: object) -> Slack:
    edit_environment("production", 'after = "staging"', 'notifier = "team"')  # type: ignore[operator]
    stage.house.blocks._blocks["slack-notifier", "team"] = a_bot(slack, stage.house.store)  # type: ignore[attr-defined, arg-type]
    return slack


def let_time_pass(store: SqlJournal) -> None:
    """As if every pause and every dead sender's time were over."""
    store._database.write(lambda connection: connection.execute(update(outboxes).values(until=store._database.now(connection))))


def test_a_rollout_is_one_message_with_its_plan_and_steps_in_the_thread(stage: Stage, told: Slack) -> None:
    stage.bring(stage.published("1.0.0"), "production")
    [headline] = told.headlines
    assert headline["text"].startswith("Production runs v1.0.0.")
    plan, steps = (one["text"] for one in told.replies(headline["ts"]))
    assert "Steps: prepare, migrate, launch, check" in plan
    assert steps.splitlines()[0].startswith("✓ prepare:")
    assert not stage.house.store.unsent_notices()


@pytest.mark.parametrize("broken", [{"status": 503}, {"limited_for": 30}, {"errors": {"chat.postMessage": "invalid_auth"}}])
def test_a_slack_that_is_ill_costs_a_rollout_nothing_and_hears_the_end_later(stage: Stage, told: Slack, broken: dict[str, object]) -> None:
    for name, value in broken.items():
        setattr(told, name, value)
    assert stage.bring(stage.published("1.0.0"), "production").ending is Ending.LIVE
    assert told.messages == []
    told.status, told.limited_for, told.errors = 200, None, {}
    let_time_pass(stage.house.store)  # type: ignore[arg-type]
    send_notices(stage.house.store, stage.house.notifier_for)
    assert told.headlines[0]["text"].startswith("Production runs v1.0.0.")
    assert len(told.headlines) == 1


def test_an_end_is_never_followed_by_a_step_that_came_before_it(stage: Stage) -> None:
    store = stage.house.store
    store.put_notice("production/production-1@", "at 50 %", None)
    store.put_notice("production/production-1", "it is live", None)
    assert [text for _, _, text, _ in store.unsent_notices()] == ["it is live"]


def test_slack_is_left_alone_for_as_long_as_it_says(stage: Stage, slack: Slack) -> None:
    store = stage.house.store
    store.put_notice("production/production-1", "it has begun", None)
    slack.limited_for = 120
    send_notices(store, lambda _: a_bot(slack, store))  # type: ignore[arg-type]
    slack.limited_for = None
    assert send_notices(store, lambda _: a_bot(slack, store)) == 0  # type: ignore[arg-type]
    assert len(slack.asked) == 1
    held = store._database.read(lambda connection: connection.execute(outboxes.select()).mappings().one())  # type: ignore[attr-defined]
    assert held["until"] - store.now() > timedelta(seconds=100)


def test_one_environments_dead_slack_holds_up_no_others(stage: Stage) -> None:
    store, slack = stage.house.store, Remembering()
    store.put_notice("production/production-1", "p", None)
    store.put_notice("staging/staging-1", "s", None)
    assert send_notices(store, lambda key: Remembering(broken=True) if key.startswith("production") else slack) == 1
    assert slack.told == [("staging/staging-1", "s")]


def test_a_notice_that_is_never_taken_does_not_block_the_next(stage: Stage) -> None:
    class Refusing(Remembering):
        def post(self, key: str, text: str, *, link: str | None = None) -> None:
            if text == "bad":
                raise Undeliverable("no.", next="nothing.")
            super().post(key, text, link=link)

    store, slack = stage.house.store, Refusing()
    store.put_notice("production/production-1", "bad", None)
    store.put_notice("production/production-2", "good", None)
    assert send_notices(store, lambda _: slack) == 1
    assert not store.unsent_notices()


def test_a_notifier_that_breaks_unforeseen_or_cannot_be_read_leaves_the_notice(stage: Stage) -> None:
    def unreadable(_: str) -> None:
        raise ZeroDivisionError

    stage.house.store.put_notice("production/production-1", "text", None)
    assert send_notices(stage.house.store, unreadable) == 0
    assert len(stage.house.store.unsent_notices()) == 1


def test_of_two_senders_only_one_sends(stage: Stage) -> None:
    store, second = stage.house.store, Remembering()
    store.put_notice("production/production-1", "text", None)

    class MeetsAnother(Remembering):
        def post(self, key: str, text: str, *, link: str | None = None) -> None:
            assert send_notices(store, lambda _: second) == 0
            super().post(key, text, link=link)

    assert send_notices(store, lambda _: MeetsAnother()) == 1
    assert second.told == []


def test_an_outbox_goes_to_the_next_when_its_holder_is_dead_and_a_late_leave_changes_nothing(stage: Stage) -> None:
    store = stage.house.store
    assert store.take_outbox("production", holder="a", ttl=MINUTE)
    assert not store.take_outbox("production", holder="b", ttl=MINUTE)
    let_time_pass(store)  # type: ignore[arg-type]
    assert store.take_outbox("production", holder="b", ttl=MINUTE)
    store.leave_outbox("production", holder="a")
    assert not store.take_outbox("production", holder="a", ttl=MINUTE)
    store.leave_outbox("production", holder="b")
    assert store.take_outbox("production", holder="a", ttl=MINUTE)


def test_pauses_grow_to_five_minutes() -> None:
    assert [pause_after(number).total_seconds() for number in (1, 2, 3)] == [5, 10, 20]
    assert pause_after(500) == LONGEST_PAUSE


def test_later_is_never_lost_on_its_way_between_processes() -> None:
    assert isinstance(pickle.loads(pickle.dumps(TryLater("no.", next="x", seconds=3))), TryLater)  # noqa: S301


def a_request(stage: Stage) -> int:
    policy = stage.house.environment("production")
    plan = plan_rollout(stage.on_staging("1.0.0"), policy, capabilities=stage.production.capabilities, blue=None)
    now = stage.house.store.now()
    return stage.house.store.open_request(plan, key="run-1", expires_at=now + timedelta(hours=2)).number


def escalations(stage: Stage) -> list[str]:
    return [text for _, key, text, _ in stage.house.store.unsent_notices() if "#urgent-waiting" in key]


def test_a_gate_that_waits_too_long_calls_people_once(stage: Stage, told: Slack, edit_environment: object) -> None:
    edit_environment("production", "quorum = 1", "quorum = 1\nescalate_hours = 0.0000001")  # type: ignore[operator]
    number = a_request(stage)
    for _ in range(2):
        close_unanswered_requests(stage.house)
        send_notices(stage.house.store, stage.house.notifier_for)
    [message] = told.messages
    assert f"Request {number} still waits for approval" in message["text"]
    assert set(told.mentions()) == {"!here"}
    assert any("run-1" in link for link in told.links())


@pytest.mark.parametrize("hours", ["1", "0"])
def test_a_gate_that_was_asked_a_moment_ago_or_never_escalates_calls_nobody(stage: Stage, edit_environment: object, hours: str) -> None:
    edit_environment("production", "quorum = 1", f"quorum = 1\nescalate_hours = {hours}")  # type: ignore[operator]
    a_request(stage)
    close_unanswered_requests(stage.house)
    assert escalations(stage) == []


def test_a_gate_that_people_have_answered_calls_nobody(stage: Stage, edit_environment: object) -> None:
    edit_environment("production", "quorum = 1", "quorum = 1\nescalate_hours = 0.0000001")  # type: ignore[operator]
    number = a_request(stage)
    word = Approval(person="Kim", decision="approve", reason="fine", channel="cli", at=stage.house.store.now())
    stage.house.store.decide(number, word)
    close_unanswered_requests(stage.house)
    assert escalations(stage) == []


SENDER = """
import sys
from pydantic import SecretStr
from blocks.journal import SqlJournal
from blocks.notifier import SlackNotifier
from flows.telling import send_notices
store = SqlJournal(sys.argv[1])
bot = SlackNotifier(token=SecretStr(sys.argv[3]), channel="C1", api_url=sys.argv[2])
bot.remember_in(store)
print(send_notices(store, lambda _: bot))
"""


@pytest.mark.processes
def test_a_sender_that_is_killed_after_slacks_yes_leaves_one_message(stage: Stage, slack: Slack, tmp_path: Path) -> None:
    store = stage.house.store
    store.put_notice("production/production-1", "it has begun", None)
    sender = subprocess.Popen(
        [sys.executable, "-c", SENDER, f"sqlite:///{tmp_path / 'journal.db'}", f"{slack.url}api/", TOKEN],
        cwd=HOME,
        env={**os.environ, "PYTHONPATH": str(HOME)},
    )
    slack.after = lambda method: sender.send_signal(signal.SIGKILL) if method == "chat.postMessage" else None
    assert sender.wait(120) == -signal.SIGKILL
    assert (len(slack.messages), len(store.unsent_notices())) == (1, 1)
    slack.after = lambda _: None
    let_time_pass(store)  # type: ignore[arg-type]
    bot = SlackNotifier(token=SecretStr(TOKEN), channel="C1", api_url=f"{slack.url}api/")
    bot.remember_in(store)
    assert send_notices(store, lambda _: bot) == 1
    assert slack.asked == ["chat.postMessage", "conversations.history", "chat.update"]
    assert len(slack.messages) == 1
