"""The steward in this process, with the real journal and simulated platforms; several of them are in test_steward_processes.py."""

import threading
from collections.abc import Callable
from datetime import timedelta

import pytest

from delivery.errors import DeliveryError, InvalidSettings, TransientError
from delivery.journal import Ending
from delivery.plan import plan_rollout
from delivery.record import Lease
from flows.duty import WEDGED_SECONDS, Duty, pause_after
from flows.heartbeat import heartbeat_file, last_beat
from flows.steward import Steward
from tests.flows.conftest import Remembering, Stage

TTL = timedelta(seconds=30)


class Impatient(threading.Event):
    """A stop event that never waits: it remembers how long it should have, and is set after `rounds`."""

    def __init__(self, rounds: int) -> None:
        super().__init__()
        self.pauses: list[float] = []
        self._rounds = rounds

    def wait(self, timeout: float | None = None) -> bool:
        self.pauses.append(timeout or 0.0)
        if len(self.pauses) == self._rounds:
            self.set()
        return self.is_set()


@pytest.fixture(autouse=True)
def no_server(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PREFECT_API_URL", "http://127.0.0.1:9/api")
    monkeypatch.setattr("flows.recover.end_runs_that_wait_in_vain", lambda _: ())


@pytest.fixture
def steward_of(stage: Stage) -> Callable[..., Steward]:
    def make(stop: threading.Event | None = None) -> Steward:
        return Steward(stage.house.settings, stop=stop or threading.Event(), blocks=lambda: stage.house.blocks)

    return make


def opened(stage: Stage, version: str, environment: str = "production") -> tuple[str, Lease]:
    """A rollout with its lease, and nobody who walks."""
    store, release = stage.house.store, stage.published(version)
    lease = store.acquire(environment, holder="the walker", purpose="a rollout", ttl=TTL)
    capabilities = stage.targets[environment].capabilities
    plan = plan_rollout(release, stage.house.environment(environment), capabilities=capabilities, blue=store.live(environment))
    return store.open_rollout(lease, plan, by="Ann"), lease


def abandoned(stage: Stage, version: str, environment: str = "production") -> str:
    rollout, lease = opened(stage, version, environment)
    stage.house.store.give_up(lease)
    return rollout


def test_one_round_takes_an_abandoned_rollout_to_its_end(stage: Stage, steward_of: Callable[..., Steward]) -> None:
    rollout = abandoned(stage, "1.0.0")
    assert steward_of().once()
    record = stage.house.store.rollout(rollout)
    assert record.ending is Ending.UNTOUCHED
    assert (record.message or "").startswith("Production is unchanged. v1.0.0 was turned back: abandoned by")


def test_a_second_round_changes_nothing(stage: Stage, steward_of: Callable[..., Steward]) -> None:
    rollout = abandoned(stage, "1.0.0")
    steward_of().once()
    before = (stage.house.store.entries(rollout), list(stage.production.acts), stage.house.store.leases())
    steward_of().once()
    assert (stage.house.store.entries(rollout), stage.production.acts, stage.house.store.leases()) == before


def test_a_rollout_that_somebody_holds_is_left_alone(stage: Stage, steward_of: Callable[..., Steward]) -> None:
    rollout, _ = opened(stage, "1.0.0")
    assert steward_of().once()
    assert stage.house.store.rollout(rollout).ended_at is None
    assert stage.production.acts == []


def test_people_are_told_how_an_abandoned_rollout_ended(
    stage: Stage, steward_of: Callable[..., Steward], edit_environment: Callable[[str, str, str], None]
) -> None:
    edit_environment("production", 'after = "staging"', 'notifier = "team"')
    slack = Remembering()
    stage.house.blocks._blocks["slack-notifier", "team"] = slack  # type: ignore[attr-defined]
    stage.house.store.put_notice("production/production-1", "Production to v1.0.0 has begun", None)
    assert abandoned(stage, "1.0.0") == "production-1"
    steward_of().once()
    steward_of().once()
    assert slack.told[-1][0] == "production/production-1"
    assert slack.told[-1][1].startswith("Production is unchanged. v1.0.0 was turned back")


def test_what_is_no_longer_warm_is_retired(stage: Stage, steward_of: Callable[..., Steward]) -> None:
    first = stage.on_staging("1.0.0")
    second = stage.on_staging("1.1.0")  # staging holds nothing warm
    assert first.id in stage.targets["staging"].observe().running
    steward_of().once()
    assert stage.targets["staging"].observe().running == {second.id}


def test_an_environment_whose_act_hangs_keeps_no_other_waiting(
    stage: Stage, steward_of: Callable[..., Steward], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("flows.steward.LOOK_SECONDS", 0.01)
    hangs, released, helped, stop = threading.Event(), threading.Event(), threading.Event(), threading.Event()

    def hang(_verb: str, _when: str) -> None:
        hangs.set()
        assert released.wait(60)

    def tell(verb: str, when: str) -> None:
        if (verb, when) == ("retire", "after"):
            helped.set()

    stage.production.spoil, stage.targets["staging"].spoil = hang, tell
    stuck = abandoned(stage, "1.0.0")
    running = threading.Thread(target=steward_of(stop).run)
    running.start()
    try:
        assert hangs.wait(60)
        abandoned(stage, "1.1.0", "staging")
        assert helped.wait(60)
        assert stage.house.store.rollout(stuck).ended_at is None
    finally:
        released.set()
        stop.set()
        running.join(60)
    assert not running.is_alive()


def test_what_nobody_foresaw_in_one_environment_does_not_end_it(
    stage: Stage, steward_of: Callable[..., Steward], monkeypatch: pytest.MonkeyPatch
) -> None:
    def burst() -> None:
        raise KeyError("a secret in a text")

    stage.bring(stage.published("1.0.0"), "production")
    monkeypatch.setattr(stage.production, "observe", burst)
    rollout = abandoned(stage, "1.1.0", "staging")
    assert not steward_of().once()
    assert stage.house.store.rollout(rollout).ending is Ending.UNTOUCHED


def test_an_environment_without_a_block_is_told_and_tried_again(
    stage: Stage, steward_of: Callable[..., Steward], edit_environment: Callable[[str, str, str], None], caplog: pytest.LogCaptureFixture
) -> None:
    edit_environment("production", "docker-target/production", "docker-target/nowhere")
    rollout = abandoned(stage, "1.0.0")
    assert not steward_of().once()
    assert "There is no block 'docker-target/nowhere'" in caplog.text
    edit_environment("production", "docker-target/nowhere", "docker-target/production")
    assert steward_of().once()
    assert stage.house.store.rollout(rollout).ended_at is not None


@pytest.mark.parametrize(
    ("error", "told"),
    [
        (TransientError("The journal's database does not answer.", next="start it."), "The journal's database does not answer."),
        (OSError("a text that may hold anything"), "OSError"),
    ],
)
def test_a_journal_that_is_gone_is_asked_more_rarely_and_for_ever(
    steward_of: Callable[..., Steward], monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture, error: Exception, told: str
) -> None:
    stop = Impatient(rounds=9)
    steward = steward_of(stop)
    caplog.set_level("INFO", "greenroom")
    whole = steward._store.rollouts

    def gone_for_seven_rounds(**named: object) -> object:
        if len(stop.pauses) < 7:
            raise error
        return whole(**named)  # type: ignore[arg-type]

    monkeypatch.setattr(steward._store, "rollouts", gone_for_seven_rounds)
    monkeypatch.setattr("flows.steward.random.uniform", lambda _least, _most: 1.0)
    steward.run()
    assert stop.pauses == [1, 2, 4, 8, 10, 10, 10, 2, 2]
    assert caplog.text.count(f"Nothing can be done for now: {told}") == 1
    assert "may hold anything" not in caplog.text
    assert "It works again." in caplog.text


def test_it_ends_between_two_acts_and_the_next_goes_on_there(stage: Stage, steward_of: Callable[..., Steward]) -> None:
    stage.bring(stage.published("1.0.0"), "production")
    rollout, stop = abandoned(stage, "1.1.0"), threading.Event()

    def end_it(verb: str, when: str) -> None:
        if (verb, when) == ("promote", "after"):
            stop.set()

    stage.production.spoil = end_it
    steward_of(stop).once()
    assert stage.house.store.rollout(rollout).ended_at is None
    assert stage.house.store.leases() == []
    assert steward_of().once()
    assert stage.house.store.rollout(rollout).ending is Ending.UNTOUCHED
    steps = [entry.event.step for entry in stage.house.store.entries(rollout) if type(entry.event).__name__ == "Started"]
    assert steps == ["restore", "announce-rollback", "collect", "remove"]


def test_each_round_leaves_a_sign_of_life_beside_the_journal(stage: Stage, steward_of: Callable[..., Steward]) -> None:
    installation = stage.house.settings
    assert last_beat(installation) is None
    steward_of().once()
    beat = last_beat(installation)
    assert beat is not None
    assert beat.is_fresh


def test_another_journal_in_the_same_folder_has_a_sign_of_its_own(stage: Stage) -> None:
    here = stage.house.settings
    urls = ("postgresql://ann:secret@db/one", "postgresql://ann:secret@db/two", "postgresql://bea:other@db/one")
    files = [heartbeat_file(here.model_copy(update={"database_url": type(here.database_url)(url)})) for url in urls]
    assert files[0] != files[1]
    assert files[0] == files[2]  # user and password are no part of the name


def test_what_fails_is_tried_again_after_growing_pauses() -> None:
    assert [pause_after(failures) for failures in (1, 2, 3, 4, 5, 50)] == [1, 2, 4, 8, 10, 10]


@pytest.fixture
def seconds() -> list[float]:
    return [0.0]


def test_a_duty_that_fails_says_so_once_and_says_when_it_works_again(seconds: list[float], caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level("INFO", "greenroom")
    broken: list[DeliveryError | None] = [InvalidSettings("No block.", next="write it.")] * 3 + [None]

    def act() -> tuple[str, ...]:
        if error := broken.pop(0):
            raise error
        return ("done",)

    duty = Duty("production", act, every=30, clock=lambda: seconds[0])
    for _ in range(4):
        duty.do()
    assert [record.getMessage() for record in caplog.records] == [
        "production: No block. Next: write it.",
        "production: done",
        "production: it works again",
    ]


def test_what_is_urgent_waits_only_for_the_pause_after_a_failure(seconds: list[float]) -> None:
    begun: list[float] = []
    fails = [False, True, False]

    def act() -> tuple[str, ...]:
        begun.append(seconds[0])
        if fails.pop(0):
            raise TransientError("Not now.", next="later.")
        return ()

    duty = Duty("production", act, every=30, clock=lambda: seconds[0])

    def look(at: float, *, urgent: bool) -> None:
        seconds[0] = at
        duty.look(urgent=urgent)
        assert duty.wait(60)

    for at, urgent in ((0.0, False), (2.0, False), (4.0, True), (4.5, True), (5.1, True), (6.0, False)):
        look(at, urgent=urgent)
    assert begun == [0.0, 4.0, 5.1]


def test_a_duty_that_hangs_is_told_once_and_not_begun_again(seconds: list[float], caplog: pytest.LogCaptureFixture) -> None:
    released, begun = threading.Event(), []

    def hang() -> tuple[str, ...]:
        begun.append(1)
        released.wait(60)
        return ()

    duty = Duty("production", hang, every=30, clock=lambda: seconds[0])
    for at in (0.0, 60.0, WEDGED_SECONDS + 1, WEDGED_SECONDS + 2):
        seconds[0] = at
        duty.look(urgent=True)
    released.set()
    assert duty.wait(60)
    assert begun == [1]
    assert caplog.text.count("it keeps only itself waiting") == 1
