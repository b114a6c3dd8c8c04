"""What is told beside a walk never matters to it."""

import threading
from functools import partial

import pytest

from flows.telling import Telling, send_notices
from tests.flows.conftest import Remembering, Stage


def test_what_breaks_is_never_raised_and_the_rest_is_told() -> None:
    told = []

    def broken() -> None:
        raise ZeroDivisionError

    with Telling() as telling:
        telling.soon("broken", broken)
        telling.soon("whole", lambda: told.append("whole"))
    assert told == ["whole"]


def test_only_the_newest_of_a_kind_is_told() -> None:
    told: list[int] = []
    gate = threading.Event()
    with Telling() as telling:
        telling.soon("something slow", gate.wait)
        for number in range(5):
            telling.newest("name", partial(told.append, number))
        gate.set()
    assert told == [4]


def test_leaving_does_not_wait_for_what_hangs(caplog: pytest.LogCaptureFixture) -> None:
    never = threading.Event()
    with Telling(patience_seconds=0.05) as telling:
        telling.soon("hangs", never.wait)
    assert "Not everything was told" in caplog.text
    never.set()


def test_a_notice_is_sent_once(stage: Stage) -> None:
    slack = Remembering()
    stage.house.store.put_notice("production/production-1", "v1.0.0 is live", "http://here")
    assert send_notices(stage.house.store, lambda _: slack) == 1
    assert send_notices(stage.house.store, lambda _: slack) == 0
    assert slack.told == [("production/production-1", "v1.0.0 is live http://here")]


def test_a_dead_slack_leaves_the_notice_for_the_next(stage: Stage) -> None:
    stage.house.store.put_notice("production/production-1", "v1.0.0 is live", None)
    assert send_notices(stage.house.store, lambda _: Remembering(broken=True)) == 0
    slack = Remembering()
    assert send_notices(stage.house.store, lambda _: slack) == 0  # too early to try again
    assert len(stage.house.store.unsent_notices()) == 1


def test_a_text_that_changes_while_the_old_one_is_sent_is_sent_too(stage: Stage) -> None:
    store = stage.house.store
    slack = Remembering()
    store.put_notice("production/production-1", "it has begun", None)

    class Slow(Remembering):
        def post(self, key: str, text: str, *, link: str | None = None) -> None:
            store.put_notice(key, "it has ended", None)
            slack.post(key, text, link=link)

    send_notices(store, lambda _: Slow())
    send_notices(store, lambda _: slack)
    assert [text for _, text in slack.told] == ["it has begun", "it has ended"]
