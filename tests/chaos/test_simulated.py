import re
import threading
from dataclasses import replace

import pytest

from delivery.errors import EnvironmentBusy
from tests.chaos.simulated import MUTATIONS, caught, mutated, run
from tests.chaos.simulated.__main__ import main
from tests.chaos.simulated.harness import play, shrunk
from tests.chaos.simulated.kernel import Kernel
from tests.chaos.simulated.ledger import Ledger
from tests.chaos.simulated.schedule import Dies, Freeze, Kill, Schedule, Steward, Story, schedule_of
from tests.chaos.simulated.stage import TTL
from tests.chaos.simulated.users import PER_SECOND
from tests.simulated_target import Killed

A_GOOD_RELEASE = Schedule(
    seed=1,
    story=Story.GOOD,
    first_release=False,
    was_warm=False,
    is_hurried=False,
    steps=(10, 100),
    watch_seconds=20.0,
    breach_at=100,
    stewards=(Steward(first=0.0, period=2.0),),
    faults=(),
)


def story_of(schedule: Schedule) -> list[tuple[float, str, str]]:
    told: list[tuple[float, str, str]] = []
    play(schedule, lambda at, who, what: told.append((at, who, what)))
    return told


@pytest.mark.processes  # takes its time
def test_hundreds_of_random_fault_schedules_keep_every_invariant() -> None:
    summary = run(range(500))

    assert summary.violations == ()
    assert (summary.orphans, summary.open_rollouts, summary.schedules) == (0, 0, 500)
    assert summary.failed_requests == 0
    assert {"LIVE", "ROLLED_BACK", "UNTOUCHED"} <= {*summary.endings}


@pytest.mark.parametrize("mechanism", MUTATIONS)
def test_a_mechanism_that_is_switched_off_is_missed(mechanism: str) -> None:
    assert caught(mechanism, range(400)) is not None


def test_a_mechanism_works_again_after_it_was_switched_off() -> None:
    for mechanism in MUTATIONS:
        with mutated(mechanism):
            pass

    assert play(schedule_of(2)).violations == ()


def test_a_seed_tells_the_same_story_twice() -> None:
    for seed in range(20):
        assert story_of(schedule_of(seed)) == story_of(schedule_of(seed))


def test_a_failing_seed_prints_the_command_that_shows_it_again(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["--seeds", "10", "--processes", "1", "--without", "draining"]) == 1
    printed = capsys.readouterr().out
    seed, sentence = re.findall(r"^seed (\d+): (.*)$", printed, re.MULTILINE)[0]
    command = re.findall(rf"again: python -m tests\.chaos\.simulated (--seed {seed} .*)$", printed, re.MULTILINE)[0]

    assert main(command.removesuffix(" --shrink").split()) == 1
    assert f"VIOLATION {sentence.split('; ')[0]}" in capsys.readouterr().out


def test_a_failing_schedule_is_shrunk_to_the_faults_it_needs() -> None:
    with mutated("draining"):
        seed = next(seed for seed in range(100) if len(schedule_of(seed).faults) == 3 and play(schedule_of(seed)).violations)
        fewest = shrunk(schedule_of(seed))

        assert len(fewest.faults) < 3
        assert play(fewest).violations


@pytest.mark.parametrize("moment", [25, 45, 62, 74])
def test_a_steward_that_looks_every_other_second_takes_over_within_the_lease_and_five_seconds(moment: int) -> None:
    outcome = play(replace(A_GOOD_RELEASE, faults=(Kill(0, moment),)))

    assert outcome.violations == ()
    taken_over = next(at for at, who, what in story_of(outcome.schedule) if who == "steward 1" and "after  take the lease" in what)
    died = next(at for at, _, what in story_of(outcome.schedule) if "is killed" in what)
    assert taken_over - died <= TTL.total_seconds() + 5


def test_of_two_stewards_that_come_at_once_exactly_one_acts() -> None:
    at_once = (Steward(first=0.0, period=2.0), Steward(first=0.0, period=2.0))
    for moment in range(8, 70, 6):
        schedule = replace(A_GOOD_RELEASE, stewards=at_once, faults=(Kill(0, moment),))
        told = story_of(schedule)

        assert play(schedule).violations == ()
        assert sum("has finished what was abandoned" in what for _, _, what in told) == 1
        assert len({who for _, who, what in told if "Started(" in what and who != "walker"}) == 1


@pytest.mark.parametrize("clock_stands", [False, True], ids=["its clock goes on", "its clock stands still"])
@pytest.mark.parametrize("moment", range(21, 80, 4))
def test_a_walker_that_was_frozen_beyond_its_lease_is_refused(moment: int, *, clock_stands: bool) -> None:
    schedule = replace(A_GOOD_RELEASE, faults=(Freeze(0, moment, 60.0, clock_stands),))
    told = story_of(schedule)
    goes_on = next(index for index, (_, who, what) in enumerate(told) if (who, what) == ("walker", "goes on"))

    assert play(schedule).violations == ()
    assert any(who == "walker" and what.startswith("stops: ") for _, who, what in told[goes_on:])
    done = [what for _, who, what in told[goes_on:] if who == "walker" and " after " in what]
    assert [what for what in done if "give the lease up" not in what] == []


@pytest.mark.parametrize("second", [3.0, 17.0, 22.0, 30.0, 41.0])
def test_a_green_that_dies_costs_its_users_three_looks_and_a_shift_at_most(second: float) -> None:
    outcome = play(replace(A_GOOD_RELEASE, steps=(50, 100), faults=(Dies("green", 2, second),)))

    assert (outcome.ending, outcome.violations, outcome.failed_requests) == ("ROLLED_BACK", (), 0)
    assert 0 < outcome.failed_apart <= (3 * 5 + 2) * PER_SECOND


# virtual time


def test_whoever_waits_shorter_goes_first() -> None:
    kernel, went = Kernel(), []

    def waits(seconds: float) -> None:
        kernel.wait(seconds)
        went.append((kernel.now, seconds))

    for seconds in (3.0, 1.0, 2.0):
        kernel.start("somebody", 0, lambda seconds=seconds: waits(seconds))  # type: ignore[misc]  # a default binds the value
    kernel.wait(10)

    assert went == [(1.0, 1.0), (2.0, 2.0), (3.0, 3.0)]


def test_a_killed_process_never_goes_on() -> None:
    kernel, went = Kernel(), []

    def goes_on() -> None:
        kernel.wait(5)
        went.append("on")

    process = kernel.start("somebody", 0, goes_on)
    kernel.at(2, lambda: kernel.kill(process))
    kernel.wait(10)

    assert went == []
    assert process.ended


def test_a_signal_wakes_who_waits_for_it() -> None:
    kernel, stop, woke = Kernel(), threading.Event(), []

    def waits() -> None:
        kernel.wait(100, stop)
        woke.append(kernel.now)

    process = kernel.start("somebody", 0, waits)
    kernel.at(7, lambda: kernel.signal(process, stop))
    kernel.wait(50)

    assert woke == [7]


def test_the_journal_in_virtual_time_has_one_holder_at_a_time() -> None:
    kernel = Kernel()
    ledger = Ledger(kernel)
    ledger.acquire("production", holder="one", purpose="a rollout", ttl=TTL)
    with pytest.raises(EnvironmentBusy):
        ledger.acquire("production", holder="another", purpose="a rollout", ttl=TTL)
    kernel.wait(TTL.total_seconds() + 1)

    assert ledger.acquire("production", holder="another", purpose="a rollout", ttl=TTL).fence == 2


def test_what_breaks_in_a_process_is_raised_by_the_conductor() -> None:
    kernel = Kernel()

    def breaks() -> None:
        raise ValueError("a fault of the harness")

    kernel.start("somebody", 0, breaks)
    kernel.wait(1)
    with pytest.raises(ValueError, match="a fault of the harness"):
        kernel.shut_down()


def test_dying_is_no_error() -> None:
    kernel = Kernel()

    def dies() -> None:
        raise Killed

    kernel.start("somebody", 0, dies)
    kernel.wait(1)
    kernel.shut_down()
