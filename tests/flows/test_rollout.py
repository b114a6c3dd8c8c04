"""One rollout under a lease, with the real journal and a simulated platform."""

import os
import signal
from datetime import timedelta

import pytest

from delivery.errors import DeliveryError, EnvironmentBusy, InvalidSettings
from delivery.journal import Ending
from delivery.plan import plan_rollout
from flows.rollout import RolledBack, finish_abandoned, place_in, result_of, share_done, stopped_by_sigterm, tidy_up
from tests.flows.conftest import Remembering, Stage

TTL = timedelta(seconds=30)


def test_a_rollout_ends_live_and_says_so(stage: Stage) -> None:
    release = stage.published("1.0.0")
    record = stage.bring(release, "production")
    assert (record.ending, result_of(record)) == (Ending.LIVE, "Production runs v1.0.0.")
    assert stage.production.weights == {release.id: 100}


def test_a_sick_green_gives_blue_everything_back_and_fails_with_that_sentence(stage: Stage) -> None:
    blue = stage.published("1.0.0")
    stage.bring(blue, "production")
    stage.production.fail("promote", 1, DeliveryError("The platform refused.", next="look."))
    record = stage.bring(stage.published("1.1.0"), "production")
    assert record.ending is Ending.ROLLED_BACK
    with pytest.raises(RolledBack, match=r"Production is back on v1\.0\.0"):
        result_of(record)
    assert stage.production.weights[blue.id] == 100


def test_a_second_rollout_is_refused_at_once_while_one_is_under_way(stage: Stage, monkeypatch: pytest.MonkeyPatch) -> None:
    def nobody_waits(seconds: float) -> None:
        pytest.fail(f"it waited {seconds} s")

    monkeypatch.setattr("flows.rollout.time.sleep", nobody_waits)
    first, second = stage.published("1.0.0"), stage.published("1.1.0")
    refusals: list[str] = []

    def begin_another(verb: str, when: str) -> None:
        if (verb, when) == ("shift", "before") and not refusals:
            with pytest.raises(EnvironmentBusy) as refused:
                stage.bring(second, "production")
            refusals.append(str(refused.value))

    stage.production.spoil = begin_another
    assert stage.bring(first, "production").ending is Ending.LIVE
    assert "Production is busy: rollout of v1.0.0" in refusals[0]


def test_a_rollout_waits_for_housekeeping_and_then_begins(stage: Stage, monkeypatch: pytest.MonkeyPatch) -> None:
    lease = stage.house.store.acquire("production", holder="recover", purpose="retiring what is no longer needed", ttl=TTL)
    waits: list[float] = []

    def housekeeping_ends(seconds: float) -> None:
        waits.append(seconds)
        stage.house.store.give_up(lease)

    monkeypatch.setattr("flows.rollout.time.sleep", housekeeping_ends)
    assert stage.bring(stage.published("1.0.0"), "production").ending is Ending.LIVE
    assert waits == [1.0]


def test_sigterm_gives_the_users_back(stage: Stage) -> None:
    blue = stage.published("1.0.0")
    stage.bring(blue, "production")

    def cancel(verb: str, when: str) -> None:
        if (verb, when) == ("shift", "after") and stage.production.weights.get(blue.id) == 50:
            os.kill(os.getpid(), signal.SIGTERM)

    stage.production.spoil = cancel
    record = stage.bring(stage.published("1.1.0"), "production")
    assert record.ending is Ending.ROLLED_BACK
    assert record.message == "Production is back on v1.0.0. v1.1.0 was turned back: the rollout was cancelled"
    assert stage.production.weights[blue.id] == 100


def test_the_handler_of_sigterm_is_put_back() -> None:
    before = signal.getsignal(signal.SIGTERM)
    with stopped_by_sigterm() as stop:
        os.kill(os.getpid(), signal.SIGTERM)
        assert stop.is_set()
    assert signal.getsignal(signal.SIGTERM) is before


def test_nothing_is_opened_when_the_last_look_refuses(stage: Stage) -> None:
    def refuse() -> None:
        raise InvalidSettings("The world has changed.", next="ask again.")

    with pytest.raises(InvalidSettings, match="The world has changed"):
        stage.bring(stage.published("1.0.0"), "production", verify=refuse)
    assert not stage.house.store.rollouts(environment="production")
    assert stage.production.acts == []
    stage.house.store.acquire("production", holder="somebody", purpose="the lease was given up", ttl=TTL)


def test_a_missing_block_is_told_before_anything_is_touched(stage: Stage, edit_environment: object) -> None:
    edit_environment("production", "docker-target/production", "docker-target/nowhere")  # type: ignore[operator]
    with pytest.raises(InvalidSettings, match="There is no block 'docker-target/nowhere'"):
        stage.bring(stage.published("1.0.0"), "production")
    assert not stage.house.store.leases()


def test_an_abandoned_rollout_is_ended_before_the_next_begins(stage: Stage) -> None:
    store = stage.house.store
    abandoned, wanted = stage.published("1.0.0"), stage.published("1.1.0")
    lease = store.acquire("production", holder="a process that died", purpose="rollout", ttl=TTL)
    plan = plan_rollout(abandoned, stage.house.environment("production"), capabilities=stage.production.capabilities, blue=None)
    store.open_rollout(lease, plan, by="somebody")
    store.give_up(lease)
    assert stage.bring(wanted, "production").ending is Ending.LIVE
    assert [record.ending for record in store.rollouts(environment="production")] == [Ending.LIVE, Ending.UNTOUCHED]


def test_finishing_twice_changes_nothing(stage: Stage) -> None:
    stage.bring(stage.published("1.0.0"), "production")
    acts = list(stage.production.acts)
    assert finish_abandoned(stage.house) == ()
    assert tidy_up(stage.house, stage.house.environment("production")) == ()
    assert stage.production.acts == acts


def test_beginning_and_end_are_one_notice_in_the_outbox(stage: Stage, edit_environment: object) -> None:
    edit_environment("production", 'after = "staging"', 'notifier = "team"')  # type: ignore[operator]
    slack = Remembering(broken=True)
    stage.house.blocks._blocks["slack-notifier", "team"] = slack  # type: ignore[attr-defined]
    record = stage.bring(stage.published("1.0.0"), "production")
    waiting = [(key, text) for _, key, text, _ in stage.house.store.unsent_notices()]
    assert waiting[0] == (f"production/{record.id}", "Production runs v1.0.0.")
    assert [key.partition("#")[2] for key, _ in waiting[1:]] == [f"{record.id}-plan", f"{record.id}-steps"]


def test_notices_without_a_notifier_count_as_told(stage: Stage) -> None:
    stage.bring(stage.published("1.0.0"), "production")
    assert not stage.house.store.unsent_notices()


@pytest.mark.parametrize(
    ("text", "place", "share"),
    [
        ("v1.1.0 to production: prepare (step 1 of 10)", "production, prepare (step 1 of 10)", 0.0),
        ("v1.1.0 to production: watch-50 (step 9 of 10), green 310 requests", "production, watch-50 (step 9 of 10)", 0.8),
        ("v1.1.0 to production: restore (way back)", "production, restore (way back)", 1.0),
        ("Production runs v1.1.0.", "Production runs v1.1.0.", 1.0),
    ],
)
def test_the_runs_name_and_progress_tell_where_it_is(text: str, place: str, share: float) -> None:
    assert (place_in(text), share_done(text)) == (place, share)


def test_the_walk_says_where_it_is_in_words_that_are_understood(stage: Stage) -> None:
    told: list[str] = []
    stage.bring(stage.published("1.0.0"), "production", on_progress=told.append)
    assert [share_done(text) for text in told] == sorted(share_done(text) for text in told)
    assert place_in(told[0]) == "production, prepare (step 1 of 7)"
    assert told[-1] == "Production runs v1.0.0."


def test_the_report_is_kept_as_a_page_when_the_run_ends_however_it_ends(stage: Stage) -> None:
    stage.bring(stage.published("1.0.0"), "production")
    stage.production.fail("promote", 1, DeliveryError("The platform refused.", next="look."))
    stage.bring(stage.published("1.1.0"), "production")
    pages = [stage.house.settings.work_dir / "rollouts" / f"production-{number}" / "report.html" for number in (1, 2)]
    assert "<title>production-1: Production runs v1.0.0.</title>" in pages[0].read_text()
    assert "<title>production-2: Production is back on v1.0.0." in pages[1].read_text()


def test_a_page_that_cannot_be_written_fails_no_rollout(stage: Stage) -> None:
    folder = stage.house.settings.work_dir / "rollouts" / "production-1"
    (folder / "report.html").mkdir(parents=True)
    assert stage.bring(stage.published("1.0.0"), "production").ending is Ending.LIVE
    assert {file.name for file in folder.iterdir()} == {"migrate.log", "report.html"}
