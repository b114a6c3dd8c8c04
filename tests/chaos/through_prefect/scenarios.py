"""What dies while a promotion goes through Prefect and a worker: each scenario ends when production is at rest again.

Nobody helps: the processes of the installation (server, worker, steward, the schedule of `recover`) have to see it through.
"""

import os
import signal
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass

from delivery.journal import Closed, Ending, Promoted, Started
from delivery.record import RolloutRecord
from tests.system.premises import Premises, until

GREEN, BLUE = "1.1.0", "1.0.0"
PATIENCE_SECONDS = 150.0


@dataclass(frozen=True)
class Came:
    """How a scenario came out: the rollout it was about, and how long after the fault that was closed."""

    record: RolloutRecord
    seconds: float


Scenario = Callable[["Pipeline"], Came]


class Pipeline:
    """Promotions of GREEN on premises whose production runs BLUE."""

    def __init__(self, premises: Premises) -> None:
        self.premises = premises
        self.journal = premises.journal
        self.installation = premises.installation

    def settle(self) -> None:
        """Production runs BLUE and GREEN is on staging, so that the next scenario begins where this one did."""
        self.premises.staged(GREEN)
        live = self.journal.live("production")
        if live is None or str(live.version) != BLUE:
            self.premises.greenroom(
                "rollback", "production", "--version", BLUE, "--reason", "the next one", "--as", "Olga", "--via", "direct"
            )

    # --- beginnings

    def promote(self, *, watch_seconds: float) -> str:
        """Asks for the promotion without waiting for anybody's approval; `watch_seconds` is how long each share is watched."""
        release = self.premises.staged(GREEN)
        with self.premises.policy("production", watch_seconds=watch_seconds, policy='"automatic"'):
            before = self._newest()
            run_id = self.premises.start("promote/promote", release=release.id, environment="production")
            until(lambda: self._newest() != before or None, "the rollout to begin")
        return run_id

    def walking(self, step: str, *, watch_seconds: float = 600.0) -> str:
        """A promotion that is at the step."""
        run_id = self.promote(watch_seconds=watch_seconds)
        self.reach(step)
        return run_id

    def reach(self, step: str) -> None:
        def there() -> bool | None:
            events = [entry.event for entry in self.journal.entries(self.record().id)]
            assert not any(isinstance(event, Closed) for event in events), self.record()
            return any(isinstance(event, Started) and event.step == step for event in events) or None

        until(there, f"the step {step}")

    # --- what is so

    def record(self) -> RolloutRecord:
        return self.premises.last_rollout("production")

    def walker(self) -> int:
        """The process id of whoever walks, as its lease names it: `host:pid:…`."""
        [lease] = [lease for lease in self.journal.leases() if lease.environment == "production"]
        return int(lease.holder.split(":")[1])

    def closed(self, since: float) -> Came:
        """Waits until the newest rollout is closed; counts from `since`, in monotonic seconds."""
        record = until(lambda: self.record() if self.record().ending else None, "the rollout to end", seconds=PATIENCE_SECONDS)
        return Came(record, time.monotonic() - since)

    def _newest(self) -> str | None:
        records = self.journal.rollouts(environment="production", limit=1)
        return records[0].id if records else None

    # --- deaths

    def kill(self, pid: int) -> float:
        """SIGKILL; the moment, in monotonic seconds."""
        os.kill(pid, signal.SIGKILL)
        return time.monotonic()

    @contextmanager
    def frozen(self, pid: int) -> Iterator[None]:
        """The process and its children stand still while the block runs."""
        family = (pid, *_children(pid))
        for one in family:
            os.kill(one, signal.SIGSTOP)
        try:
            yield
        finally:
            for one in family:
                os.kill(one, signal.SIGCONT)


def _children(pid: int) -> list[int]:
    with open(f"/proc/{pid}/task/{pid}/children") as listed:  # noqa: PTH123  a name of the kernel's
        return [int(one) for one in listed.read().split()]


def killed_while_it_watches(pipeline: Pipeline) -> Came:
    pipeline.walking("watch-50")
    return pipeline.closed(pipeline.kill(pipeline.walker()))


def killed_while_it_launches(pipeline: Pipeline) -> Came:
    pipeline.walking("launch")
    return pipeline.closed(pipeline.kill(pipeline.walker()))


def killed_while_it_migrates(pipeline: Pipeline) -> Came:
    pipeline.walking("migrate")
    return pipeline.closed(pipeline.kill(pipeline.walker()))


def killed_after_the_promotion(pipeline: Pipeline) -> Came:
    pipeline.promote(watch_seconds=2.0)

    def promoted() -> bool | None:
        return any(isinstance(entry.event, Promoted) for entry in pipeline.journal.entries(pipeline.record().id)) or None

    until(promoted, "the promotion")
    return pipeline.closed(pipeline.kill(pipeline.walker()))


def killed_on_the_way_back(pipeline: Pipeline) -> Came:
    run_id = pipeline.walking("watch-50")
    pipeline.premises.api.cancel(run_id)
    pipeline.reach("restore")
    return pipeline.closed(pipeline.kill(pipeline.walker()))


def cancelled_while_it_launches(pipeline: Pipeline) -> Came:
    run_id = pipeline.walking("launch")
    since = time.monotonic()
    pipeline.premises.api.cancel(run_id)
    return pipeline.closed(since)


def cancelled_while_it_watches(pipeline: Pipeline) -> Came:
    run_id = pipeline.walking("watch-50")
    since = time.monotonic()
    pipeline.premises.api.cancel(run_id)
    return pipeline.closed(since)


def cancelled_after_the_server_stood_still(pipeline: Pipeline) -> Came:
    """Longer than any client waits for an answer: worker and flow have lost their connections when the cancel comes."""
    run_id = pipeline.walking("watch-50")
    with pipeline.frozen(_required(pipeline.installation.prefect.process.pid())):
        time.sleep(40)
    since = time.monotonic()
    pipeline.premises.api.cancel(run_id)
    return pipeline.closed(since)


def the_worker_is_killed(pipeline: Pipeline) -> Came:
    pipeline.walking("watch-50", watch_seconds=8.0)
    since = pipeline.kill(_required(pipeline.installation.worker.process.pid()))
    came = pipeline.closed(since)
    pipeline.installation.worker.start()
    return came


def the_server_is_killed_and_comes_back(pipeline: Pipeline) -> Came:
    pipeline.walking("watch-50", watch_seconds=8.0)
    since = pipeline.kill(_required(pipeline.installation.prefect.process.pid()))
    pipeline.installation.prefect.start()
    return pipeline.closed(since)


def the_walker_wakes_after_another_took_over(pipeline: Pipeline) -> Came:
    run_id = pipeline.walking("watch-50")
    since = time.monotonic()
    with pipeline.frozen(pipeline.walker()):
        came = pipeline.closed(since)
        entries = len(pipeline.journal.entries(came.record.id))
    run = pipeline.premises.ended(run_id)
    assert run.state == "FAILED", run
    assert len(pipeline.journal.entries(came.record.id)) == entries, "the late walker wrote into the journal"
    return came


def walker_and_steward_are_killed(pipeline: Pipeline) -> Came:
    """The schedule of `recover` alone takes over."""
    pipeline.walking("watch-50")
    steward = pipeline.installation.steward
    steward.stop()
    try:
        return pipeline.closed(pipeline.kill(pipeline.walker()))
    finally:
        steward.start()


def all_restarted_while_a_person_thinks(pipeline: Pipeline) -> Came:
    """The run is suspended while server and worker go away and come back; then it is approved."""
    release = pipeline.premises.staged(GREEN)
    run_id = pipeline.premises.start("promote/promote", release=release.id, environment="production")
    pipeline.premises.waiting(run_id)
    pipeline.installation.worker.stop()
    pipeline.kill(_required(pipeline.installation.prefect.process.pid()))
    pipeline.installation.prefect.start()
    pipeline.installation.worker.start()
    since = time.monotonic()
    pipeline.premises.approve(run_id)
    run = pipeline.premises.ended(run_id)
    assert run.state == "COMPLETED", run
    return pipeline.closed(since)


def a_finished_run_is_started_once_more(pipeline: Pipeline) -> Came:
    """As a late automation does: it finds its rollout closed and changes nothing."""
    run_id = pipeline.promote(watch_seconds=2.0)
    came = pipeline.closed(time.monotonic())
    assert pipeline.premises.ended(run_id).state == "COMPLETED"
    entries, since = len(pipeline.journal.entries(came.record.id)), time.monotonic()
    again = {"state": {"type": "SCHEDULED"}, "force": True}
    pipeline.premises.http.post(f"/flow_runs/{run_id}/set_state", json=again).raise_for_status()
    run = pipeline.premises.ended(run_id)
    assert (run.state, run.message) == ("COMPLETED", came.record.message), run
    assert pipeline.record() == came.record
    assert len(pipeline.journal.entries(came.record.id)) == entries
    return Came(came.record, time.monotonic() - since)


def _required(pid: int | None) -> int:
    assert pid is not None, "it does not run"
    return pid


BACK = (Ending.ROLLED_BACK, Ending.UNTOUCHED)
# What may become of each: before the promotion the users go back, after it the release is live.
SCENARIOS: tuple[tuple[Scenario, tuple[Ending, ...]], ...] = (
    (killed_while_it_migrates, BACK),
    (killed_while_it_launches, BACK),
    (killed_while_it_watches, BACK),
    (killed_on_the_way_back, BACK),
    (killed_after_the_promotion, (Ending.LIVE,)),
    (cancelled_while_it_launches, BACK),
    (cancelled_while_it_watches, BACK),
    (cancelled_after_the_server_stood_still, BACK),
    (the_worker_is_killed, (Ending.LIVE,)),
    (the_server_is_killed_and_comes_back, (Ending.LIVE,)),
    (the_walker_wakes_after_another_took_over, BACK),
    (walker_and_steward_are_killed, BACK),
    (all_restarted_while_a_person_thinks, (Ending.LIVE,)),
    (a_finished_run_is_started_once_more, (Ending.LIVE,)),
)
