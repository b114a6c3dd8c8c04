"""Scheduled: does the newest backup of each environment bring everything back?"""

from datetime import timedelta
from uuid import uuid4

from prefect import flow

from blocks.settings import environment_names
from delivery.environment import Environment
from delivery.errors import DeliveryError
from delivery.ports import BackingUp
from flows.assembly import House, open_house
from flows.messages import in_one_message
from flows.parameters import EnvironmentName
from flows.rollout import log
from tasks.backup import backups_of, try_restoring


@flow(name="restore-test", flow_run_name="restore-test", retries=0, persist_result=False)
@in_one_message
def restore_test(environment: EnvironmentName | None = None) -> str:
    """Restores the newest backup into a database of its own beside the one it was taken from, compares revision and row counts with what
    was noted when it was taken, writes what came of it into the journal, and drops the copy.

    Args:
        environment: Only this environment; empty for every one that has a backup.

    """
    with open_house() as house:
        return try_backups(house, environment)


def try_backups(house: House, environment: str | None = None) -> str:
    """The sentences of all environments. A backup that does not come back fails the run after the others had their turn."""
    said: list[str] = []
    broken: list[DeliveryError] = []
    for name in [environment] if environment else environment_names(house.settings.environments_dir):
        try:
            if told := _test_one(house, house.environment(name)):
                said.append(told)
        except DeliveryError as error:
            log.warning("%s: %s", name, error)
            broken.append(error)
    if broken:
        raise DeliveryError(" ".join([*(error.what for error in broken), *said]), next=broken[0].next)
    return " ".join(said) or "There is no backup yet."


def _test_one(house: House, environment: Environment) -> str | None:
    store, name = house.store, environment.name
    backup = next(iter(backups_of(store, name)), None)
    if backup is None:
        return None
    target = house.target(environment)
    if not isinstance(target, BackingUp):
        raise DeliveryError(
            f"{environment.title}'s newest backup cannot be tried: its target restores none.",
            next="restore one by hand, docs/operating.md.",
        )
    release = store.release(store.rollout(backup.rollout).release)
    tested = try_restoring(
        backup,
        house.settings.work_dir / "backups",
        release,
        target,
        environment=name,
        variables=environment.variables,
        timeout=timedelta(seconds=2 * environment.deadlines.backup_seconds),
    )
    store.add_restore_test(tested, key=uuid4().hex)
    if tested.well:
        return f"{environment.title}: {tested.what}."
    raise DeliveryError(
        f"{environment.title}'s newest backup does not come back: {tested.what}.",
        next="look why, and have another one taken: docs/operating.md, Backups.",
    )
