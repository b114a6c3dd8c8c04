"""Alerts reach people and Prefect once each, whatever dies in between."""

import json
import socket
import threading
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from datetime import timedelta
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

import pytest
from prefect.settings import PREFECT_API_AUTH_STRING, PREFECT_API_URL, temporary_settings
from pydantic import SecretStr

from blocks.journal import SqlJournal
from blocks.notifier import SlackNotifier
from blocks.prefect_events import PrefectEvents
from delivery.alert_news import EVENTS
from delivery.errors import DeliveryError, InvalidSettings, TransientError, Undeliverable
from delivery.journal import Ending
from flows.alerts import put_alerts
from flows.assembly import House
from flows.promote import ask, carry_out, gate
from flows.steward import Steward
from flows.telling import Telling, send_notices
from tests.flows.conftest import Remembering, Stage
from tests.flows.test_outbox import let_time_pass
from tests.slack_server import HOOK, TOKEN, Slack, slack_server

REFUSED = DeliveryError("The platform refused <!channel> & <http://evil.example|this>.", next="look.")
NOBODY = "http://127.0.0.1:9/api"


@dataclass
class Events:
    """What a Prefect server's `POST /api/events` was sent. `status` is what it answers."""

    url: str = ""
    status: int = 204
    seen: list[dict[str, Any]] = field(default_factory=list)
    authorization: list[str | None] = field(default_factory=list)

    @property
    def names(self) -> list[str]:
        return [one["event"] for one in self.seen]


@pytest.fixture
def prefect() -> Iterator[Events]:
    events = Events()

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            body = self.rfile.read(int(self.headers["Content-Length"]))
            events.authorization.append(self.headers["Authorization"])
            if self.path == "/api/events" and events.status == 204:
                events.seen += json.loads(body)
            self.send_response(events.status)
            self.end_headers()

        def log_message(self, *_: object) -> None:
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    events.url = f"http://127.0.0.1:{server.server_address[1]}/api"
    with temporary_settings({PREFECT_API_URL: events.url}):
        yield events
    server.shutdown()
    server.server_close()


@pytest.fixture
def slack() -> Iterator[Slack]:
    with slack_server() as state:
        yield state


@pytest.fixture
def told(stage: Stage, slack: Slack, edit_environment: Callable[[str, str, str], None]) -> Slack:
    edit_environment("production", 'after = "staging"', 'notifier = "team"')
    bot = SlackNotifier(token=SecretStr(TOKEN), channel="#releases", api_url=f"{slack.url}api/", escalate_to="here")
    bot.remember_in(stage.house.store)
    stage.house.blocks._blocks["slack-notifier", "team"] = bot  # type: ignore[attr-defined]
    return slack


def needs_a_person(stage: Stage) -> None:
    """production-2 can neither go on nor back."""
    stage.bring(stage.published("1.0.0"), "production")
    stage.stuck("1.1.0", REFUSED)


def of_alerts(slack: Slack) -> list[str]:
    return [one["text"] for one in slack.headlines if "alert-" in one["metadata"]["event_payload"]["key"]]


def unsent(store: object) -> list[str]:
    return [key for _, key, _, _ in store.unsent_notices()]  # type: ignore[attr-defined]


def later(monkeypatch: pytest.MonkeyPatch, stage: Stage, **by: float) -> None:
    now = stage.house.store.now() + timedelta(**by)
    monkeypatch.setattr(SqlJournal, "now", lambda _: now)


def test_an_alert_is_a_message_of_its_own_whose_end_updates_it(stage: Stage, told: Slack, prefect: Events) -> None:
    needs_a_person(stage)
    [failed, human] = sorted(of_alerts(told), key=lambda text: "needs-human" in text)
    assert failed.startswith("WARNING: deployment-failed in production, since ")
    assert human.startswith("CRITICAL: needs-human in production, since ")
    assert "Runbook: docs/runbooks/needs-human.md" in human
    assert stage.bring(stage.published("1.2.0"), "production").ending is Ending.LIVE
    assert put_alerts(stage.house) == ()
    [failed, human] = sorted(of_alerts(told), key=lambda text: "needs-human" in text)
    assert failed.startswith("OVER (warning): deployment-failed in production")
    assert human.endswith("Ended: Production runs v1.2.0.")
    assert prefect.names == [
        "greenroom.alert.deployment-failed",
        "greenroom.alert.needs-human",
        "greenroom.alert.deployment-failed.resolved",
        "greenroom.alert.needs-human.resolved",
    ]


def test_nothing_in_an_alert_can_mention_or_link(stage: Stage, told: Slack) -> None:
    needs_a_person(stage)
    assert "evil.example" in "".join(of_alerts(told))
    assert (told.mentions(), told.links()) == ([], set())


def test_a_webhook_gets_the_beginning_and_the_end_as_two_messages(stage: Stage, told: Slack) -> None:
    hook = SlackNotifier(webhook=SecretStr(f"{told.url}{HOOK}"))
    stage.house.blocks._blocks["slack-notifier", "team"] = hook  # type: ignore[attr-defined]
    needs_a_person(stage)
    stage.bring(stage.published("1.2.0"), "production")
    human = [text for text in told.texts() if ": needs-human in production" in text]
    assert [text.partition(":")[0] for text in human] == ["CRITICAL", "OVER (critical)"]


def test_the_link_is_the_runbook_where_the_documentation_can_be_read(stage: Stage, told: Slack) -> None:
    house = stage.house
    installation = house.settings.model_copy(update={"docs_url": "https://docs.example/greenroom/"})
    stage.house = House(installation, house.store, house.blocks)
    needs_a_person(stage)
    assert "https://docs.example/greenroom/runbooks/needs-human.md|Open" in told.links()


def test_the_event_names_the_environment_its_severity_and_the_run(stage: Stage, prefect: Events) -> None:
    run = "0b9bd6c9-7f36-4f3c-a9c7-5b9ba7d5a6c1"
    release = stage.on_staging("1.0.0")
    stage.production.fail("launch", 9, REFUSED)
    request = ask(stage.house, release.id, "production", "hotfix", key=run)
    with Telling() as telling:
        carry_out(stage.house, request, telling, approved_by=gate(stage.house, request, telling))
    [event] = prefect.seen
    assert event["resource"]["prefect.resource.id"] == "greenroom.environment.production"
    assert event["resource"]["greenroom.severity"] == "warning"
    assert event["related"] == [{"prefect.resource.id": f"prefect.flow-run.{run}", "prefect.resource.role": "flow-run"}]
    assert event["payload"]["rollout"] == "production-1"
    assert event["payload"]["link"].endswith(f"/runs/flow-run/{run}")


def test_a_dead_prefect_holds_up_no_message_and_gets_its_events_later(stage: Stage, told: Slack, prefect: Events) -> None:
    with temporary_settings({PREFECT_API_URL: NOBODY}):
        needs_a_person(stage)
    assert len(of_alerts(told)) == 2
    assert {key.partition("/")[0] for key in unsent(stage.house.store)} == {EVENTS}
    let_time_pass(stage.house.store)  # type: ignore[arg-type]
    send_notices(stage.house.store, stage.house.notifier_for)
    assert prefect.names == ["greenroom.alert.deployment-failed", "greenroom.alert.needs-human"]
    assert unsent(stage.house.store) == []


def test_a_dead_slack_holds_up_no_event(stage: Stage, told: Slack, prefect: Events) -> None:
    stage.house.blocks._blocks["slack-notifier", "team"] = Remembering(broken=True)  # type: ignore[attr-defined]
    needs_a_person(stage)
    assert prefect.names == ["greenroom.alert.deployment-failed", "greenroom.alert.needs-human"]
    assert told.asked == []


def test_a_prefect_that_takes_connections_and_never_answers_does_not_change_how_a_rollout_ends(stage: Stage, told: Slack) -> None:
    with (
        socket.create_server(("127.0.0.1", 0)) as silent,
        temporary_settings({PREFECT_API_URL: f"http://127.0.0.1:{silent.getsockname()[1]}/api"}),
    ):
        needs_a_person(stage)
    assert len(of_alerts(told)) == 2


def test_whoever_comes_after_a_restart_tells_what_was_not_told_and_nothing_twice(stage: Stage, told: Slack, prefect: Events) -> None:
    stage.house.blocks._blocks["slack-notifier", "team"] = Remembering(broken=True)  # type: ignore[attr-defined]
    needs_a_person(stage)
    bot = SlackNotifier(token=SecretStr(TOKEN), channel="#releases", api_url=f"{told.url}api/")
    other = SqlJournal(stage.house.settings.database_url)  # another process, with nothing in its memory
    bot.remember_in(other)
    stage.house.blocks._blocks["slack-notifier", "team"] = bot  # type: ignore[attr-defined]
    house = House(stage.house.settings, other, stage.house.blocks)
    let_time_pass(other)
    for _ in range(3):
        put_alerts(house)
        send_notices(other, house.notifier_for)
    assert len(of_alerts(told)) == 2
    assert len(prefect.seen) == 2
    other.close()


def test_the_end_of_an_alert_that_nobody_could_tell_is_told_by_the_steward(
    stage: Stage, told: Slack, monkeypatch: pytest.MonkeyPatch
) -> None:
    needs_a_person(stage)
    with monkeypatch.context() as patched:
        patched.setattr("flows.rollout.tell_alerts", lambda *_: None)
        stage.bring(stage.published("1.2.0"), "production")
    later(monkeypatch, stage, days=2)
    for _ in range(2):  # one puts it, the next one sends it
        Steward(stage.house.settings, stop=threading.Event(), blocks=lambda: stage.house.blocks).once()
    assert [text for text in of_alerts(told) if text.startswith("OVER (critical): needs-human in production")]


def test_what_was_over_long_before_anybody_looked_is_not_told(stage: Stage, told: Slack, monkeypatch: pytest.MonkeyPatch) -> None:
    with monkeypatch.context() as patched:
        patched.setattr("flows.rollout.tell_alerts", lambda *_: None)
        needs_a_person(stage)
        stage.bring(stage.published("1.2.0"), "production")
    later(monkeypatch, stage, hours=2)
    assert put_alerts(stage.house) == ()
    assert of_alerts(told) == []


def test_a_critical_alert_that_stays_open_calls_people_once(stage: Stage, told: Slack, monkeypatch: pytest.MonkeyPatch) -> None:
    needs_a_person(stage)
    assert told.mentions() == []
    later(monkeypatch, stage, minutes=31)
    assert put_alerts(stage.house, "production") == ("production: needs-human, escalated.",)
    assert put_alerts(stage.house, "production") == ()
    send_notices(stage.house.store, stage.house.notifier_for)
    assert set(told.mentions()) == {"!here"}
    assert told.messages[-1]["text"].startswith("<!here> Still needs-human in production, for 31 min: Production needs a person")


def test_an_environment_that_never_escalates_says_so(
    stage: Stage, told: Slack, monkeypatch: pytest.MonkeyPatch, edit_environment: Callable[[str, str, str], None]
) -> None:
    edit_environment("production", "[prove]", "[alerts]\nescalate_minutes = 0\n[prove]")
    needs_a_person(stage)
    later(monkeypatch, stage, days=9)
    assert put_alerts(stage.house, "production") == ()
    assert told.mentions() == []


def test_an_environment_that_cannot_be_read_keeps_no_other_waiting(stage: Stage, told: Slack) -> None:
    needs_a_person(stage)
    (stage.environments / "broken.toml").write_text("nonsense")
    stage.bring(stage.published("1.2.0"), "production")
    assert put_alerts(stage.house) == ()
    assert [text for text in of_alerts(told) if text.startswith("OVER")]


# The events, one by one.


EVENT = json.dumps({"event": "greenroom.alert.degraded", "occurred": "2026-07-01T10:00:00+00:00", "environment": "production",
                    "flow_run": None, "payload": {"severity": "warning"}})  # fmt: skip


@pytest.mark.parametrize(
    ("status", "kind"), [(503, TransientError), (429, TransientError), (422, Undeliverable), (401, DeliveryError), (302, DeliveryError)]
)
def test_what_a_server_refuses_is_sent_again_only_where_that_may_help(prefect: Events, status: int, kind: type[DeliveryError]) -> None:
    prefect.status = status
    with pytest.raises(DeliveryError) as refused:
        PrefectEvents().post("prefect events/a#opened", EVENT)
    assert type(refused.value) is kind


def test_an_event_that_is_sent_twice_has_one_id(prefect: Events) -> None:
    for key in ("a#opened", "a#opened", "a#resolved"):
        PrefectEvents().post(f"{EVENTS}/production/{key}", EVENT)
    first, again, other = (one["id"] for one in prefect.seen)
    assert first == again != other


def test_the_login_goes_where_it_belongs_and_never_in_the_clear(prefect: Events) -> None:
    with temporary_settings({PREFECT_API_AUTH_STRING: "ann:a-password"}):
        PrefectEvents().post("a", EVENT)
        assert prefect.authorization == ["Basic YW5uOmEtcGFzc3dvcmQ="]
        with temporary_settings({PREFECT_API_URL: "http://prefect.example/api"}), pytest.raises(InvalidSettings, match="in the clear"):
            PrefectEvents().post("a", EVENT)


def test_what_is_no_event_any_more_is_given_up(prefect: Events) -> None:
    with pytest.raises(Undeliverable):
        PrefectEvents().post("a", "***")
    assert prefect.seen == []
