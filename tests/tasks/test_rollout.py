import json
import threading
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from datetime import timedelta
from pathlib import Path

import pytest

from blocks.journal import SqlJournal
from delivery.application import Hook, LoadTest
from delivery.environment import Environment, Proving, Standing, Traffic
from delivery.errors import DeliveryError, EnvironmentBusy, StaleFence, TransientError
from delivery.health import HealthReport, ProbeResult
from delivery.journal import Closed, Ending, Event, Finished
from delivery.plan import Plan, StepKind
from delivery.ports import RunResult
from delivery.release import Release
from delivery.revisions import MigrationReview
from delivery.walk import Act
from tasks.image_alembic import MARK
from tasks.lease import LeaseKeeper
from tasks.migrating import useful_line
from tasks.report import rollout_markdown
from tasks.retry import QUICK
from tasks.rollout import Means, as_prefect_tasks, perform, policy_of, retire_warm, turn_back_abandoned, walk_rollout
from tasks.scene import Scene
from tests.memory_journal import MemoryJournal
from tests.samples import a_plan, a_release, an_environment
from tests.simulated_target import Killed, Running, SimulatedTarget, SimulatedTraffic, VirtualClock, told_of

A_DAY = timedelta(days=1)
BLUE, GREEN = a_release("1.1.0"), a_release("1.2.0")
QUICKLY = an_environment(traffic=Traffic(steps=(50, 100), watch_seconds=0, bake_seconds=0, hold_seconds=900))


@dataclass
class World:
    """An environment with blue live on it, its users, its journal, and a way to roll out."""

    folder: Path
    environment: Environment = field(default_factory=an_environment)
    blue: Release | None = BLUE
    clock: VirtualClock = field(default_factory=VirtualClock)
    target: SimulatedTarget = field(default_factory=SimulatedTarget)
    stop: threading.Event = field(default_factory=threading.Event)
    keepers: list[LeaseKeeper] = field(default_factory=list)

    def __post_init__(self) -> None:
        self.traffic = SimulatedTraffic(self.target, self.clock)
        self.store = MemoryJournal(self.clock.now)
        self.rollouts: list[str] = []
        if self.blue:
            self.target.serve(self.blue)

    @property
    def means(self) -> Means:
        return Means(self.target, self.traffic, self.folder, clock=self.clock)

    def plan(self, release: Release = GREEN, **changes: object) -> Plan:
        return a_plan(release, self.blue, self.target, self.environment, **changes)

    def keeper(self, holder: str = "walker") -> LeaseKeeper:
        return LeaseKeeper(self.store, self.environment.name, holder=holder, purpose="a rollout", ttl=A_DAY, clock=self.clock.now)

    def roll_out(self, plan: Plan | None = None, means: Means | None = None) -> Closed:
        with self.keeper() as keeper:
            self.rollouts.append(self.store.open_rollout(keeper.lease, plan or self.plan(), by="ann"))
            return walk_rollout(self.store, keeper, self.rollouts[-1], means or self.means, stop=self.stop)

    def roll_out_until_killed(self, plan: Plan | None = None) -> bool:
        """As `roll_out` in a process that may die: then nobody gives the lease up, and it expires. True when it died."""
        keeper = self.keeper()
        keeper.__enter__()
        try:
            self.rollouts.append(self.store.open_rollout(keeper.lease, plan or self.plan(), by="ann"))
            walk_rollout(self.store, keeper, self.rollouts[-1], self.means, stop=self.stop)
        except Killed:
            return True
        finally:
            keeper._leaving.set()
            self.store.forget_holder(self.environment.name)
        return False

    def recover(self, holder: str = "steward") -> tuple[Closed, ...]:
        return turn_back_abandoned(self.store, lambda _: self.means, holder=holder, ttl=A_DAY)

    def evidence(self, step: str) -> Finished:
        events = [entry.event for entry in self.store.entries(self.rollouts[-1])]
        return next(event for event in events if isinstance(event, Finished) and event.step == step)

    def assert_consistent(self) -> None:
        """The journal and the platform tell the same story, and no invariant was broken on the way."""
        assert self.target.violations == []
        record = self.store.rollout(self.rollouts[-1])
        live = record.release if record.ending is Ending.LIVE else record.blue
        if live:
            assert self.target.weights[live] == 100
            assert self.target.live == live
            assert self.target.releases[live].workers
        if record.ending in (Ending.ROLLED_BACK, Ending.UNTOUCHED):
            assert record.release not in self.target.observe().running
            assert not self.target.weights.get(record.release, 0)


@pytest.fixture
def world(tmp_path: Path) -> World:
    return World(tmp_path)


def test_a_good_release_goes_live_step_by_step(world: World) -> None:
    closed = world.roll_out()

    assert closed == Closed(Ending.LIVE, "Production runs v1.2.0.")
    assert [act for act in world.target.acts if act.startswith("shift")] == ["shift 10 v1.2.0", "shift 50 v1.2.0", "shift 100 v1.2.0"]
    assert world.clock.now() >= 120 + 120 + 60
    world.assert_consistent()


def test_a_breach_at_50_percent_gives_blue_all_traffic(world: World) -> None:
    def go_bad() -> None:
        world.traffic.count()
        world.traffic.error_share[GREEN.id] = 0.08

    world.clock.at(125, go_bad)  # the 50 % step begins at 120 s

    closed = world.roll_out()

    assert closed.ending is Ending.ROLLED_BACK
    assert closed.message.startswith("Production is back on v1.1.0. v1.2.0 was turned back: error rate ")
    assert "is above 5 % for 45 s at 50 %" in closed.message
    assert world.target.weights == {BLUE.id: 100}
    assert world.target.releases[GREEN.id].remains
    world.assert_consistent()


def test_a_failing_migration_leaves_production_untouched(world: World) -> None:
    output = ("  File env.py, line 3", 'sqlalchemy.exc.IntegrityError: column "price" contains null values', "[SQL: ALTER TABLE x]")
    world.target.command = lambda command: RunResult(1, output) if told_of(command) == "alembic upgrade" else None

    closed = world.roll_out()

    assert closed.ending is Ending.UNTOUCHED
    assert closed.message == (
        "Production is unchanged. v1.2.0 was turned back: migration failed: "
        'sqlalchemy.exc.IntegrityError: column "price" contains null values'
    )
    assert not any(act.startswith("launch") for act in world.target.acts)
    world.assert_consistent()


def test_what_a_failed_migration_has_applied_is_written_down(world: World) -> None:
    told = {
        "before": ["0001"],
        "after": ["0002"],
        "applied": [{"id": "0002", "sha256": "5" * 64}],
        "refused": {"what": "revision 0003 fails: no such column (SQLSTATE 42703)", "next": "correct the revision"},
    }
    world.target.command = lambda _command: RunResult(0, ("INFO running", MARK + json.dumps(told)))
    closed = world.roll_out()
    assert closed.message.startswith(
        "Production is unchanged. v1.2.0 was turned back: migration failed: revision 0003 fails: no such column"
    )
    evidence = world.evidence("migrate").evidence
    assert (evidence.facts["after"], evidence.facts["applied"]) == (["0002"], [{"id": "0002", "sha256": "5" * 64}])
    assert evidence.facts["output"] == ["INFO running"]


@pytest.mark.parametrize(("blue", "review", "expected"), [(None, None, None), (BLUE, None, {}), (BLUE, GREEN.review, {"0002": "0" * 64})])
def test_beside_a_version_that_serves_only_what_was_reviewed_may_run(
    tmp_path: Path, blue: Release | None, review: MigrationReview | None, expected: object
) -> None:
    world = World(tmp_path, blue=blue)
    asked: list[object] = []

    def command(command: Sequence[str]) -> RunResult:
        asked.append(json.loads(command[-1])["asked"]["reviewed"])
        return RunResult(1, ())

    world.target.command = command
    world.roll_out(world.plan(a_release("1.2.0", review=review)))
    assert asked == [expected]


def test_a_migration_tells_where_it_came_from_and_where_it_arrived(world: World) -> None:
    world.roll_out()

    evidence = world.evidence("migrate").evidence
    assert evidence.summary == "the schema went from 0001 to 0002"
    assert evidence.facts["before"] == ["0001"]
    assert evidence.facts["after"] == ["0002"]


def test_a_green_that_never_becomes_well_is_turned_back_before_it_gets_users(world: World) -> None:
    world.target.reports[GREEN.id] = HealthReport((ProbeResult("api-1", well=False, detail="api answered version 1.1.0, expected 1.2.0."),))

    closed = world.roll_out()

    assert closed.ending is Ending.UNTOUCHED
    assert "api answered version 1.1.0, expected 1.2.0." in closed.message
    world.assert_consistent()


def test_the_first_release_of_an_environment_goes_live_without_steps(tmp_path: Path) -> None:
    world = World(tmp_path, blue=None)

    assert world.roll_out().ending is Ending.LIVE
    assert [act for act in world.target.acts if act.startswith("shift")] == ["shift 100 v1.2.0"]


def test_a_first_release_that_fails_leaves_nobody_routed_to_it(tmp_path: Path) -> None:
    world = World(tmp_path, blue=None)
    world.target.fail("promote", 1, DeliveryError("The platform refuses.", next="ask it."))

    closed = world.roll_out()

    assert closed.ending is Ending.ROLLED_BACK
    assert world.target.weights == {}
    world.assert_consistent()


@pytest.mark.parametrize("verb", ["prepare", "run_once", "launch", "check", "shift", "promote", "drain", "observe"])
def test_a_verb_that_fails_twice_does_not_fail_the_rollout(world: World, verb: str) -> None:
    world.target.fail(verb, times=2)

    assert world.roll_out().ending is Ending.LIVE
    world.assert_consistent()


@pytest.mark.parametrize("verb", ["shift", "retire"])
def test_the_way_back_is_tried_more_often_than_the_way_forward(world: World, verb: str) -> None:
    def refuse_green(at: str, when: str) -> None:
        if (at, when) == ("promote", "before") and world.target.live == BLUE.id and world.target.weights[GREEN.id] == 100:
            world.target.fail(verb, times=8)
            raise DeliveryError("The platform refuses.", next="ask it.")

    world.target.spoil = refuse_green

    closed = world.roll_out()

    assert closed.ending is Ending.ROLLED_BACK
    world.assert_consistent()


def test_a_blue_that_cannot_be_restored_needs_a_person(world: World) -> None:
    world.target.fail("check", 1, DeliveryError("The engine is gone.", next="start it."))
    world.target.fail("shift", 1, DeliveryError("The traffic layer is broken.", next="repair it."))

    closed = world.roll_out()

    assert closed.ending is Ending.NEEDS_HUMAN
    assert closed.message == "Production needs a person: step restore of v1.2.0: restore failed: The traffic layer is broken."


def test_a_blue_that_died_is_launched_again_before_it_gets_its_users_back(world: World) -> None:
    def reboot() -> None:
        for state in world.target.releases.values():
            state.up = False
        world.target.reports[GREEN.id] = HealthReport((ProbeResult("api-1", well=False, detail="it is not running."),))

    world.clock.at(130, reboot)

    closed = world.roll_out()

    assert closed.ending is Ending.ROLLED_BACK
    assert "launch v1.1.0" in world.target.acts
    assert world.target.weights == {BLUE.id: 100}


def test_a_blue_that_lost_a_replica_gets_its_users_back_before_it_is_completed(world: World) -> None:
    refuse_the_promotion(world)
    lost = Standing({}, frozenset({GREEN.id}), 0)
    world.target.observe = lambda: lost  # type: ignore[method-assign]

    closed = world.roll_out()

    assert closed.ending is Ending.ROLLED_BACK
    acts = world.target.acts
    assert acts.index("shift 0 v1.2.0") < acts.index("launch v1.1.0")


def test_a_blue_that_cannot_be_completed_has_its_users_back_all_the_same(world: World) -> None:
    refuse_the_promotion(world)
    world.target.observe = lambda: Standing({}, frozenset({GREEN.id}), 0)  # type: ignore[method-assign]
    world.target.spoil = lambda verb, when: (
        world.target.fail("launch", 1, DeliveryError("There is no room.", next="free 2 GiB."))
        if (verb, when) == ("shift", "after")
        else None
    )

    assert world.roll_out().ending is Ending.ROLLED_BACK
    assert world.evidence("restore").evidence.summary == "v1.1.0 has every user again, on fewer replicas: There is no room."


def test_a_blue_that_dies_while_it_gets_its_users_back_is_launched_again(world: World) -> None:
    def die(verb: str, when: str) -> None:
        if (verb, when) == ("shift", "after") and world.target.weights.get(BLUE.id) == 100:
            world.target.spoil = lambda _verb, _when: None
            world.target.releases[BLUE.id].up = False

    refuse_the_promotion(world)
    world.clock.at(250, lambda: setattr(world.target, "spoil", die))

    assert world.roll_out().ending is Ending.ROLLED_BACK
    acts = world.target.acts
    assert acts[acts.index("launch v1.1.0") :][:3] == ["launch v1.1.0", "shift 0 v1.2.0", "promote v1.1.0"]
    world.assert_consistent()


def test_a_blue_that_goes_down_again_after_its_launch_is_launched_once_more(world: World) -> None:
    launches: list[str] = []

    def reboot() -> None:
        for state in world.target.releases.values():
            state.up = False
        world.target.spoil = go_down_twice

    def go_down_twice(verb: str, when: str) -> None:
        if (verb, when) == ("launch", "after"):
            launches.append(verb)
            world.target.releases[BLUE.id].up = len(launches) > 2

    world.clock.at(130, reboot)

    assert world.roll_out().ending is Ending.ROLLED_BACK
    assert world.target.weights == {BLUE.id: 100}


def test_a_dead_blue_is_launched_again_even_if_the_platform_cannot_be_asked_at_once(world: World) -> None:
    def reboot() -> None:
        for state in world.target.releases.values():
            state.up = False
        world.target.fail("observe", times=3)

    world.clock.at(130, reboot)

    assert world.roll_out().ending is Ending.ROLLED_BACK
    assert "launch v1.1.0" in world.target.acts


def test_cancelling_gives_blue_every_user_at_once(world: World) -> None:
    world.clock.at(150, world.stop.set)

    closed = world.roll_out()

    assert closed.ending is Ending.ROLLED_BACK
    assert closed.message.endswith("the rollout was cancelled")
    assert world.clock.now() < 151
    world.assert_consistent()


def test_cancelling_after_the_promotion_changes_nothing(world: World) -> None:
    world.target.spoil = lambda verb, _: world.stop.set() if verb == "drain" else None

    assert world.roll_out().ending is Ending.LIVE
    world.assert_consistent()


def test_a_failing_hook_is_a_remark(world: World) -> None:
    world.target.command = lambda command: RunResult(3, ("RuntimeError: no cache",)) if "hook" in command else None

    assert world.roll_out().ending is Ending.LIVE
    assert world.evidence("announce").evidence.summary == "hook cache ended with 3: RuntimeError: no cache"


def test_hooks_learn_the_event_and_the_version(world: World) -> None:
    world.roll_out()

    assert "run hook promote 1.2.0 v1.2.0" in world.target.acts


def test_a_rollback_tells_the_hooks_that_it_is_one(tmp_path: Path) -> None:
    world = World(tmp_path, blue=GREEN)
    world.roll_out(world.plan(BLUE, kind="rollback"))

    assert "run hook rollback 1.1.0 v1.1.0" in world.target.acts


def test_hooks_learn_that_users_went_back(world: World) -> None:
    refuse_the_promotion(world)
    world.roll_out()

    assert "run hook rollback 1.1.0 v1.1.0" in world.target.acts


def test_hooks_hear_nothing_of_a_rollout_that_moved_nobody(world: World) -> None:
    fail_the_migration(world)
    world.roll_out()

    assert not any("hook" in act for act in world.target.acts)


def test_a_hook_for_another_event_is_not_run(world: World) -> None:
    quiet = a_release("1.2.0", hooks=(Hook("undo", ("rollback",), "api", ("undo",)),))

    world.roll_out(world.plan(quiet))

    assert "run undo v1.2.0" not in world.target.acts


def test_a_drain_that_fails_after_the_promotion_is_a_remark(world: World) -> None:
    world.target.fail("drain", 1, DeliveryError("The engine is gone.", next="start it."))

    assert world.roll_out().ending is Ending.LIVE
    assert "could not be drained yet: The engine is gone." in world.evidence("drain").evidence.summary


def test_logs_that_cannot_be_kept_do_not_stop_the_way_back(world: World) -> None:
    world.target.fail("promote", 1, DeliveryError("The platform refuses.", next="ask it."))
    world.target.fail("collect_logs", 2, DeliveryError("The engine is gone.", next="start it."))

    assert world.roll_out().ending is Ending.ROLLED_BACK
    what = "could not be kept: The engine is gone."
    assert world.evidence("collect").evidence.summary == f"the logs of v1.2.0 {what}; the logs of v1.1.0 {what}"


def test_logs_of_green_that_cannot_be_kept_take_nothing_from_those_of_blue(world: World) -> None:
    world.target.fail("promote", 1, DeliveryError("The platform refuses.", next="ask it."))
    world.target.fail("collect_logs", 1, DeliveryError("The engine is gone.", next="start it."))

    world.roll_out()

    (kept,) = world.evidence("collect").evidence.facts["logs"]
    assert kept.endswith(f"{BLUE.id}-api-1.log")


def test_what_a_migration_printed_is_kept_in_the_rollouts_folder(world: World) -> None:
    world.roll_out()

    kept = world.folder / world.rollouts[-1] / "migrate.log"
    assert world.evidence("migrate").evidence.facts["log"] == str(kept)
    assert kept.read_text()


def test_the_logs_of_a_turned_back_release_and_of_the_one_brought_back_are_kept_in_the_rollouts_folder(world: World) -> None:
    world.target.fail("promote", 1, DeliveryError("The platform refuses.", next="ask it."))

    world.roll_out()

    assert world.evidence("collect").evidence.facts["logs"] == [
        str(world.folder / world.rollouts[-1] / f"{release.id}-api-1.log") for release in (GREEN, BLUE)
    ]


def test_a_promotion_that_the_platform_does_not_confirm_is_turned_back(world: World) -> None:
    def lose_it(verb: str, when: str) -> None:
        if (verb, when) == ("promote", "after") and world.target.live == GREEN.id:
            world.target.weights = {GREEN.id: 50, BLUE.id: 50}

    world.target.spoil = lose_it

    closed = world.roll_out()

    assert closed.ending is Ending.ROLLED_BACK
    assert "after the promotion the users are with" in closed.message
    world.assert_consistent()


def test_a_release_without_replicas_to_ask_fails_its_smoke_test(tmp_path: Path) -> None:
    world = World(tmp_path, environment=an_environment(prove=Proving(smoke=True)))

    closed = world.roll_out()

    assert closed.ending is Ending.UNTOUCHED
    assert "smoke test: there is no replica of api to ask for /api/listings." in closed.message


def test_a_load_test_without_an_address_is_refused_and_turned_back(tmp_path: Path) -> None:
    world = World(tmp_path, environment=an_environment(prove=Proving(smoke=False, load=True)))
    release = a_release("1.2.0", load=LoadTest(rate=10, seconds=1, paths=("/elsewhere",)))

    closed = world.roll_out(world.plan(release))

    assert closed.ending is Ending.ROLLED_BACK
    assert "The load test asks for /elsewhere: got no replica of any service for it" in closed.message


def test_a_walker_that_lost_its_lease_stops_and_writes_nothing_more(world: World) -> None:
    def take_over() -> None:
        world.store.forget_holder("production")
        world.store.acquire("production", holder="another", purpose="recovery", ttl=A_DAY)

    world.clock.at(130, take_over)
    keeper = world.keeper()
    with keeper:
        name = world.store.open_rollout(keeper.lease, world.plan(), by="ann")
        world.clock.at(131, keeper.renew)
        with pytest.raises(StaleFence):
            walk_rollout(world.store, keeper, name, world.means, stop=world.stop)

    assert world.store.rollout(name).ended_at is None
    assert world.target.weights[GREEN.id] == 50
    world.store.forget_holder("production")
    assert world.recover()[0].ending is Ending.ROLLED_BACK


def test_a_closed_rollout_is_left_alone(world: World) -> None:
    closed = world.roll_out()
    acts = list(world.target.acts)
    with world.keeper() as keeper:
        again = walk_rollout(world.store, keeper, world.rollouts[-1], world.means, stop=world.stop)

    assert again == closed
    assert world.target.acts == acts


def test_progress_that_cannot_be_shown_does_not_matter(world: World) -> None:
    def broken(_: str) -> None:
        raise RuntimeError

    assert (
        world.roll_out(means=Means(world.target, world.traffic, world.folder, on_progress=broken, clock=world.clock)).ending is Ending.LIVE
    )


def test_progress_names_the_step_and_its_place(world: World) -> None:
    told: list[str] = []
    world.roll_out(means=Means(world.target, world.traffic, world.folder, on_progress=told.append, clock=world.clock))

    assert told[0] == "v1.2.0 to production: prepare (step 1 of 13)"
    assert told[-1] == "Production runs v1.2.0."
    assert any(
        text.startswith("v1.2.0 to production: watch-10 (step 6 of 13), 60 of 120 s, green 0 % errors of 60 requests") for text in told
    )


# dying and coming back


@dataclass
class Bomb:
    """Kills the walker at the n-th of all the moments in which it touches the journal or the platform."""

    fuse: int
    passed: int = 0

    def __call__(self, _what: object, _when: str) -> None:
        self.passed += 1
        if self.passed == self.fuse:
            raise Killed


def arm(world: World, fuse: int) -> Bomb:
    bomb = Bomb(fuse)
    world.target.spoil, world.store.spoil = bomb, bomb
    return bomb


def disarm(world: World) -> None:
    world.target.spoil, world.store.spoil = (lambda _verb, _when: None), (lambda _event, _when: None)


def spoil_nothing(_: World) -> None:
    pass


def fail_the_migration(world: World) -> None:
    world.target.command = lambda command: RunResult(1, ("Error: no",)) if told_of(command) == "alembic upgrade" else None


def refuse_the_promotion(world: World) -> None:
    """Only green's: blue's confirmation on the way back goes through."""
    refused = DeliveryError("The platform refuses.", next="ask it.")
    plain = world.target.promote

    def promote(release: Release, token: object) -> None:
        if release.id == GREEN.id:
            raise refused
        plain(release, token)  # type: ignore[arg-type]

    world.target.promote = promote  # type: ignore[method-assign]


def fail_the_promotion_and_the_removal(world: World) -> None:
    refuse_the_promotion(world)
    world.target.fail("retire", 1, DeliveryError("The engine is gone.", next="start it."))


STORIES = {"a good release": spoil_nothing, "a failing migration": fail_the_migration, "a refused promotion": refuse_the_promotion}


@pytest.mark.parametrize("story", STORIES)
@pytest.mark.parametrize("first_release", [False, True], ids=["beside blue", "first release"])
def test_a_walker_that_dies_at_any_point_is_finished_by_recovery(tmp_path: Path, story: str, *, first_release: bool) -> None:
    endings = set()
    for fuse in range(3, 500):  # the first two moments are the opening entry itself: no rollout exists before it
        world = World(tmp_path, environment=QUICKLY, blue=None if first_release else BLUE)
        STORIES[story](world)
        arm(world, fuse)
        died = world.roll_out_until_killed()
        disarm(world)
        was_promoted = world.store.rollout(world.rollouts[-1]).promoted_at is not None
        recovered = world.recover()
        record = world.store.rollout(world.rollouts[-1])

        assert record.ending in (Ending.LIVE, Ending.ROLLED_BACK, Ending.UNTOUCHED), f"killed at {fuse}"
        assert (record.ending is Ending.LIVE) == was_promoted, f"killed at {fuse}"
        world.assert_consistent()
        acts = list(world.target.acts)
        assert world.recover() == (), "a second recovery has nothing to do"
        assert world.target.acts == acts
        endings.add(record.ending)
        if not died:
            assert recovered == ()
            break
    else:
        pytest.fail("the walk never came to its end")
    assert Ending.ROLLED_BACK in endings or Ending.UNTOUCHED in endings


@pytest.mark.processes  # takes its time
def test_a_recovery_that_dies_at_any_point_is_finished_by_the_next(tmp_path: Path) -> None:
    for fuse in range(3, 60, 3):
        for second in range(1, 60):
            world = World(tmp_path, environment=QUICKLY)
            arm(world, fuse)
            world.roll_out_until_killed()
            arm(world, second)
            try:
                world.recover("first steward")
                again = False
            except Killed:
                world.store.forget_holder("production")
                again = True
            disarm(world)
            world.recover("second steward")

            assert world.store.rollout(world.rollouts[-1]).ending is not None, f"killed at {fuse}, then at {second}"
            assert world.store.rollout(world.rollouts[-1]).ending is not Ending.NEEDS_HUMAN
            world.assert_consistent()
            if not again:
                break


def test_a_rollout_that_is_being_walked_is_left_alone_by_recovery(world: World) -> None:
    found: list[tuple[Closed, ...]] = []
    world.clock.at(130, lambda: found.append(world.recover()))

    assert world.roll_out().ending is Ending.LIVE
    assert found == [()]


def test_an_abandoned_rollout_says_by_whom(world: World) -> None:
    arm(world, 12)
    assert world.roll_out_until_killed()
    disarm(world)

    assert world.recover()[0].message.endswith("v1.2.0 was turned back: abandoned by walker")


def test_an_environment_that_cannot_be_helped_does_not_keep_the_others_waiting(tmp_path: Path) -> None:
    world = World(tmp_path, environment=QUICKLY)
    arm(world, 12)
    world.roll_out_until_killed()
    disarm(world)

    def no_block(_: str) -> Means:
        raise DeliveryError("The target block is gone.", next="register it.")

    assert turn_back_abandoned(world.store, no_block, holder="steward", ttl=A_DAY) == ()
    assert world.recover()[0].ending is not Ending.NEEDS_HUMAN


# keeping blue warm, and letting go


def test_blue_stays_warm_until_its_hold_time_is_over(world: World) -> None:
    world.roll_out()
    promoted = world.store.rollout(world.rollouts[-1]).promoted_at
    assert promoted is not None

    def housekeeping(after: float) -> tuple[str, ...]:
        now = promoted + timedelta(seconds=after)
        return retire_warm(world.store, world.target, "production", now=now, holder="recover", ttl=A_DAY)

    assert housekeeping(899) == ()
    assert world.target.observe().running == {BLUE.id, GREEN.id}
    assert housekeeping(900) == (f"{BLUE.id} is retired.",)
    assert world.target.observe().running == {GREEN.id}
    assert housekeeping(901) == ()


def test_housekeeping_that_finds_nothing_idle_reads_no_journal(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    world.roll_out()
    later = world.store.now() + timedelta(hours=5)
    retire_warm(world.store, world.target, "production", now=later, holder="recover", ttl=A_DAY)
    monkeypatch.setattr(world.store, "entries", lambda _: pytest.fail("it read a whole journal for nothing"))

    assert retire_warm(world.store, world.target, "production", now=later, holder="recover", ttl=A_DAY) == ()


def test_a_warm_release_that_lost_a_replica_is_retired_all_the_same(world: World) -> None:
    world.roll_out()
    world.target.releases[BLUE.id].up = False

    later = world.store.now() + timedelta(hours=5)
    assert retire_warm(world.store, world.target, "production", now=later, holder="recover", ttl=A_DAY) == (f"{BLUE.id} is retired.",)


def test_a_warm_release_that_died_and_left_the_routing_is_retired_all_the_same(world: World) -> None:
    world.roll_out()
    world.blue = GREEN
    world.roll_out(world.plan(a_release("1.3.0")))
    world.target.releases[GREEN.id] = Running(died=True)
    world.target.weights.pop(GREEN.id)

    later = world.store.now() + timedelta(hours=5)
    told = retire_warm(world.store, world.target, "production", now=later, holder="recover", ttl=A_DAY)
    assert f"{GREEN.id} is retired." in told
    assert retire_warm(world.store, world.target, "production", now=later, holder="recover", ttl=A_DAY) == ()


def test_housekeeping_leaves_the_remains_of_a_failed_rollout(world: World) -> None:
    live = a_release("1.3.0")
    world.roll_out(world.plan(live))
    world.blue = live
    refuse_the_promotion(world)
    assert world.roll_out().ending is Ending.ROLLED_BACK

    later = world.store.now() + timedelta(hours=5)
    assert retire_warm(world.store, world.target, "production", now=later, holder="recover", ttl=A_DAY) == (f"{BLUE.id} is retired.",)
    assert world.target.releases[GREEN.id].remains


@pytest.mark.parametrize("blue", [None, BLUE], ids=["first release", "beside blue"])
def test_a_turned_back_release_that_could_not_be_stopped_is_stopped_by_housekeeping(tmp_path: Path, blue: Release | None) -> None:
    world = World(tmp_path, blue=blue)
    fail_the_promotion_and_the_removal(world)
    assert world.roll_out().ending is Ending.ROLLED_BACK
    assert GREEN.id in world.target.observe().running

    later = world.store.now() + timedelta(hours=5)
    told = retire_warm(world.store, world.target, "production", now=later, holder="recover", ttl=A_DAY)
    assert told == (f"{GREEN.id} is retired.",)
    assert world.target.releases[GREEN.id].remains
    assert retire_warm(world.store, world.target, "production", now=later, holder="recover", ttl=A_DAY) == ()


def test_what_still_runs_is_left_to_the_person_whom_a_rollout_needs(world: World) -> None:
    world.roll_out()
    world.blue = GREEN
    world.target.spoil = lambda verb, when: (
        world.target.fail("shift", 2, DeliveryError("The traffic layer is broken.", next="repair it."))
        if (verb, when) == ("launch", "after")
        else None
    )
    assert world.roll_out(world.plan(a_release("1.3.0"))).ending is Ending.NEEDS_HUMAN

    later = world.store.now() + timedelta(hours=5)
    assert retire_warm(world.store, world.target, "production", now=later, holder="recover", ttl=A_DAY) == ()
    assert world.target.observe().running == {BLUE.id, GREEN.id, a_release("1.3.0").id}


def test_nothing_is_retired_while_a_rollout_waits_for_recovery(world: World) -> None:
    world.roll_out()
    world.blue = GREEN
    arm(world, 12)
    world.roll_out_until_killed(world.plan(a_release("1.3.0")))
    disarm(world)

    later = world.store.now() + timedelta(hours=5)
    assert retire_warm(world.store, world.target, "production", now=later, holder="recover", ttl=A_DAY) == ()


def test_nothing_is_retired_while_somebody_holds_the_lease(world: World) -> None:
    world.roll_out()
    later = world.store.now() + timedelta(hours=5)
    with world.keeper():
        assert retire_warm(world.store, world.target, "production", now=later, holder="recover", ttl=A_DAY) == ()
    assert retire_warm(world.store, world.target, "production", now=later, holder="recover", ttl=A_DAY) != ()


def test_the_remains_of_a_failed_rollout_go_with_the_next_success(world: World) -> None:
    refuse_the_promotion(world)
    assert world.roll_out().ending is Ending.ROLLED_BACK
    assert world.target.releases[GREEN.id].remains

    assert world.roll_out(world.plan(a_release("1.3.0"))).ending is Ending.LIVE
    assert not world.target.releases[GREEN.id].remains
    assert world.target.observe().running == {BLUE.id, a_release("1.3.0").id}


def test_a_held_lease_is_refused_at_once(world: World) -> None:
    with world.keeper(), pytest.raises(EnvironmentBusy):
        world.keeper("another").__enter__()


# retries and their numbers


def test_a_forward_step_gives_up_when_its_tries_are_used_up(world: World) -> None:
    world.target.fail("shift", times=QUICK.attempts)

    closed = world.roll_out()

    assert closed.message.endswith("v1.2.0 was turned back: shift-10 failed: shift did not work.")


def test_every_kind_of_step_has_a_policy() -> None:
    assert {policy_of(kind).name for kind in StepKind} == {"quick", "network", "once"}


def test_a_cancelled_rollout_does_not_try_a_forward_step_again(world: World, scene: Callable[[], Scene]) -> None:
    world.target.fail("shift", times=1)
    world.stop.set()
    step = next(step for step in world.plan().forward if step.kind is StepKind.SHIFT)

    assert perform(step, scene()).summary == "the rollout was cancelled"
    assert world.target.acts == []


def test_the_lease_is_looked_at_before_each_try(world: World, scene: Callable[[], Scene]) -> None:
    looks: list[int] = []
    world.target.fail("prepare", times=2)
    step = world.plan().forward[0]

    perform(step, scene(lambda: looks.append(1)))

    assert len(looks) == 3


@pytest.fixture
def scene(world: World) -> Callable[..., Scene]:
    def made(ensure: Callable[[], None] = lambda: None) -> Scene:
        return Scene(
            world.plan(),
            world.target,
            world.traffic,
            world.keeper().__enter__().token("production-1"),
            ensure,
            world.stop,
            world.folder,
            clock=world.clock,
        )

    return made


# what commands say


@pytest.mark.parametrize(
    ("output", "line"),
    [
        (["Traceback (most recent call last):", '  File "x"', "ValueError: no", "(Background on this error at: there)"], "ValueError: no"),
        (["INFO one", "psycopg.errors.NotNullViolation: null value", "DETAIL: row 4"], "psycopg.errors.NotNullViolation: null value"),
        (["everything was fine", "until it was not"], "until it was not"),
        ([], "it said nothing"),
    ],
)
def test_the_useful_line_of_a_failed_command_is_the_one_that_names_the_error(output: list[str], line: str) -> None:
    assert useful_line(output) == line


def test_what_the_steps_found_survives_the_real_journal(world: World) -> None:
    store = SqlJournal(f"sqlite:///{world.folder}/journal.db")
    store.migrate()
    plan = world.plan()
    for release in (BLUE, GREEN):
        store.save_release(release)
    world.traffic.error_share[GREEN.id] = 0.5
    with LeaseKeeper(store, "production", holder="walker", purpose="a rollout", ttl=timedelta(minutes=5)) as keeper:
        rollout = store.open_rollout(keeper.lease, plan, by="ann")
        closed = walk_rollout(store, keeper, rollout, world.means, stop=world.stop)

    store.verify_chain(rollout)
    story = rollout_markdown(store.entries(rollout), store.rollout(rollout))
    store.close()
    assert closed.ending is Ending.ROLLED_BACK
    assert "| 10 % | 140 | 70 (50 %) |" in story


@pytest.mark.prefect
def test_under_prefect_a_step_is_a_task_named_after_it_that_is_tried_again(tmp_path: Path) -> None:
    from prefect import flow  # noqa: PLC0415  seconds that the other tests do not wait for
    from prefect.client.orchestration import get_client  # noqa: PLC0415
    from prefect.client.schemas.objects import StateType  # noqa: PLC0415
    from prefect.context import TaskRunContext  # noqa: PLC0415
    from prefect.testing.utilities import prefect_test_harness  # noqa: PLC0415

    world = World(tmp_path, environment=QUICKLY)
    seen: list[tuple[str, int]] = []

    def look(verb: str, when: str) -> None:
        context = TaskRunContext.get()
        if context and when == "before":
            seen.append((context.task_run.name, context.task_run.run_count))
        if verb == "prepare" and when == "before" and len(seen) == 1:
            raise TransientError("The registry answers 503.", next="try again.")

    world.target.spoil = look

    def acts(scene: Scene) -> Act:
        return as_prefect_tasks(scene)

    @flow
    def rollout() -> str:
        return world.roll_out(means=Means(world.target, world.traffic, world.folder, acts=acts, clock=world.clock)).ending

    with prefect_test_harness():
        assert rollout() == "LIVE"
        sick = World(tmp_path, environment=QUICKLY)
        fail_the_migration(sick)

        @flow
        def turned_back() -> str:
            return sick.roll_out(means=Means(sick.target, sick.traffic, sick.folder, acts=acts, clock=sick.clock)).ending

        assert turned_back() == "UNTOUCHED"
        with get_client(sync_client=True) as client:
            failed = [run for run in client.read_task_runs() if run.state_type == StateType.FAILED]
        assert [(run.name, run.state.message) for run in failed if run.state] == [("migrate", "migration failed: Error: no")]

    assert seen[:2] == [("prepare", 1), ("prepare", 2)]
    assert {name for name, _ in seen} >= {"prepare", "migrate", "launch", "shift-50", "shift-100", "promote", "announce", "drain"}
    world.assert_consistent()


def test_events_and_steps_agree_on_their_names(world: World) -> None:
    world.roll_out()
    events: list[Event] = [entry.event for entry in world.store.entries(world.rollouts[-1])]

    assert [event.step for event in events if isinstance(event, Finished)] == list(world.plan().step_names)
