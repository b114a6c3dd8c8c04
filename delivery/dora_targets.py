"""What good delivery is, by the specification: a deployment a day, changes live within hours, few of them bad, and those mended soon."""

from dataclasses import dataclass
from datetime import timedelta

from delivery.dora import Deliveries

LEAD_TIME = timedelta(hours=4)
FAIL_RATE = 0.15
RECOVERY = timedelta(hours=1)


@dataclass(frozen=True)
class TargetsMet:
    """None where nothing is known to judge by. Lead time and recovery are judged by their medians, all by "less than"."""

    frequency: bool | None
    lead_time: bool | None
    fail_rate: bool | None
    recovery: bool | None


def targets_met(seen: Deliveries) -> TargetsMet:
    """The frequency is met when each day of the window had a deployment that completed."""
    lead_time, recovery, fail_rate = seen.lead_times().median, seen.recoveries().median("impact"), seen.change_fail_rate().value
    return TargetsMet(
        frequency=seen.frequency().deployment_days >= seen.window.days if seen.population else None,
        lead_time=None if lead_time is None else lead_time < LEAD_TIME,
        fail_rate=None if fail_rate is None else fail_rate < FAIL_RATE,
        recovery=None if recovery is None else recovery < RECOVERY,
    )
