"""Where a schedule plays: an environment, its history, what is rolled out, and time that is not the machine's."""

import logging
import random
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from functools import partial
from types import SimpleNamespace

import tenacity

import tasks.rollout
from delivery.environment import Deadlines, Environment, Proving, Traffic, WatchSettings
from delivery.gate import NOT_SCANNED
from delivery.health import HealthReport, ProbeResult
from delivery.inspection_settings import InspectionSettings, InspectionWaiver
from delivery.journal import Ending
from delivery.plan import Plan
from delivery.ports import RunResult
from delivery.triggers import Trigger
from tests.chaos.simulated.keeper import VirtualKeeper
from tests.chaos.simulated.kernel import Kernel
from tests.chaos.simulated.ledger import Ledger
from tests.chaos.simulated.platform import Platform
from tests.chaos.simulated.schedule import Schedule, Story
from tests.samples import a_plan, a_release, an_environment
from tests.simulated_target import told_of

TTL = timedelta(seconds=15)
HOLD_SECONDS = 90.0
REQUEST = 7
OLDER, NEWER, NEXT = a_release("1.1.0"), a_release("1.2.0"), a_release("1.3.0")
EXPECTED = {
    Story.GOOD: Ending.LIVE,
    Story.ROLLBACK: Ending.LIVE,
    Story.BREACH: Ending.ROLLED_BACK,
    Story.REFUSED: Ending.ROLLED_BACK,
    Story.MIGRATION: Ending.UNTOUCHED,
    Story.SICK: Ending.UNTOUCHED,
}
# The platform in memory has no address: that nobody looked is excused, and the step is walked, killed and frozen like any other.
NOBODY_CAN_BE_ASKED = InspectionWaiver(
    rule=NOT_SCANNED, reason="no address", owner="chaos", until=datetime.now(UTC).date() + timedelta(days=30)
)


def environment_of(schedule: Schedule) -> Environment:
    return an_environment(
        traffic=Traffic(schedule.steps, schedule.watch_seconds, schedule.watch_seconds, HOLD_SECONDS),
        watch=WatchSettings(interval_seconds=5, window_seconds=15, minimum_requests=20, blind_seconds=30),
        deadlines=Deadlines(),
        trigger=(Trigger("error_rate", threshold=0.05, for_seconds=10),),
        prove=Proving(smoke=False, load=False, inspect=True),
        inspection=InspectionSettings(waiver=(NOBODY_CAN_BE_ASKED,)),
    )


def set_stage(schedule: Schedule, platform: Platform, ledger: Ledger) -> Plan:
    """What has been before the story begins, and the plan that it is about."""
    environment = environment_of(schedule)
    goes_back = schedule.story is Story.ROLLBACK
    blue, green = (NEWER, OLDER) if goes_back else (OLDER, NEWER)
    if goes_back:
        ledger.bring(a_plan(OLDER, None, platform, environment))
        if schedule.was_warm:
            platform.serve(OLDER)
            platform.releases[OLDER.id].workers = False
    if not schedule.first_release:
        ledger.bring(a_plan(blue, OLDER if goes_back else None, platform, environment))
        platform.serve(blue)
    match schedule.story:
        case Story.BREACH:
            platform.users.errs_from = (green.id, schedule.breach_at)
        case Story.MIGRATION:
            platform.command = lambda command: RunResult(int(told_of(command) == "alembic upgrade"), ("ValueError: no such column",))
        case Story.SICK:
            platform.reports[green.id] = HealthReport((ProbeResult("api-1", well=False, detail="api answers 500."),))
        case Story.REFUSED:
            platform.refuses = green.id
        case _:
            pass
    kind = "rollback" if goes_back else "normal"
    return a_plan(green, None if schedule.first_release else blue, platform, environment, kind=kind, request=REQUEST)


@contextmanager
def in_virtual_time(kernel: Kernel, seed: int) -> Iterator[None]:
    """Retries, their chance, and the leases that recovery takes: all by the schedule's clock and dice."""
    logger, level = logging.getLogger("greenroom"), logging.getLogger("greenroom").level
    retrying, recovery, chance = vars(tenacity), vars(tasks.rollout), random.getstate()
    plain = retrying["time"], recovery["LeaseKeeper"]
    retrying["time"] = SimpleNamespace(monotonic=lambda: kernel.now - kernel.current.lag)
    recovery["LeaseKeeper"] = partial(VirtualKeeper, kernel)  # recovery makes its keepers itself
    random.seed(seed)
    logger.setLevel(logging.CRITICAL + 1)
    try:
        yield
    finally:
        retrying["time"], recovery["LeaseKeeper"] = plain
        random.setstate(chance)
        logger.setLevel(level)
