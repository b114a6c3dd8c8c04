"""The nightly sweep: what nobody needs any longer, shown first and then taken away."""

import json
from collections.abc import Callable, Iterable, Sequence
from functools import partial
from typing import Annotated

from prefect import flow
from pydantic import Field

from blocks.settings import environment_names
from delivery.environment import Capability
from delivery.errors import DeliveryError
from delivery.ports import BackingUp
from delivery.retention import Verdict
from flows.assembly import House, holder, open_house
from flows.messages import in_one_message
from flows.rollout import log
from flows.telling import leave_artifact, this_run
from tasks.backup_keeping import sweep_backups, sweep_copies
from tasks.housekeeping import bury_remains, sweep_folders, sweep_registry

OnlyShow = Annotated[bool, Field(title="only show", description="Shows what would go, and why, and deletes nothing.")]


@flow(name="housekeeping", flow_run_name="housekeeping", retries=0, persist_result=False)
@in_one_message
def housekeeping(only_show: OnlyShow = True) -> str:  # noqa: FBT002  a field of a form
    """Deletes what no environment, no request and no way back needs: images, old files of this machine, remains of turned-back releases.

    Args:
        only_show: Shows what would go, and why, and deletes nothing.

    """
    with open_house() as house:
        verdicts, failures = sweep(house, act=not only_show)
        if run_id := this_run():
            leave_artifact(run_id, "housekeeping", "table", json.dumps(rows(verdicts)), sentence(verdicts, act=not only_show))
        if failures:
            raise DeliveryError(
                "\n".join(error.what for error in failures), next="\n".join(dict.fromkeys(error.next for error in failures))
            )
        return sentence(verdicts, act=not only_show)


def sweep(house: House, *, act: bool) -> tuple[tuple[Verdict, ...], tuple[DeliveryError, ...]]:
    """Every verdict, and what could not be swept. One that cannot be swept does not keep the others."""
    installation, names = house.settings, environment_names(house.settings.environments_dir)
    sweeps: list[Callable[[], Iterable[Verdict]]] = [
        lambda: sweep_registry(house.store, house.registry(), names, keep=installation.keep_releases, act=act),
        lambda: sweep_folders(installation.work_dir, days=installation.keep_days, act=act),
        *(partial(_remains_of, house, name, act=act) for name in names),
        *(partial(_backups_of, house, name, act=act) for name in names),
        *(partial(_copies_of, house, name, act=act) for name in names),
    ]
    verdicts: list[Verdict] = []
    failures: list[DeliveryError] = []
    for one in sweeps:
        try:
            verdicts += one()
        except DeliveryError as broken:
            log.warning("%s", broken)
            failures.append(broken)
    return tuple(verdicts), tuple(failures)


def _remains_of(house: House, name: str, *, act: bool) -> tuple[Verdict, ...]:
    if not house.store.rollouts(environment=name, limit=1):
        return ()
    environment = house.environment(name)
    return bury_remains(
        house.store,
        house.target(environment),
        environment,
        days=house.settings.keep_days,
        act=act,
        holder=holder(),
        ttl=house.lease_ttl,
    )


def _backups_of(house: House, name: str, *, act: bool) -> tuple[Verdict, ...]:
    installation = house.settings
    folder, days = installation.work_dir / "backups", installation.keep_days
    return sweep_backups(house.store, folder, name, keep=installation.keep_backups, days=days, act=act)


def _copies_of(house: House, name: str, *, act: bool) -> tuple[Verdict, ...]:
    live = house.store.live(name)
    if live is None or live.migrations is None:
        return ()
    environment = house.environment(name)
    target = house.target(environment)
    if not isinstance(target, BackingUp) or Capability.BACK_UP not in target.capabilities:
        return ()
    return sweep_copies(live, target, variables=environment.variables, act=act)


def rows(verdicts: Iterable[Verdict]) -> list[dict[str, str]]:
    """What goes first, then what stays, each with its reason."""
    ordered = sorted(verdicts, key=lambda verdict: (not verdict.goes, verdict.thing))
    return [{"what": one.thing, "fate": "goes" if one.goes else "stays", "why": one.why} for one in ordered]


def sentence(verdicts: Sequence[Verdict], *, act: bool) -> str:
    going = sum(one.goes for one in verdicts)
    if not going:
        return f"Nothing is to be deleted; {len(verdicts)} things were looked at."
    verb = "are deleted" if act else "would be deleted"
    return f"{going} of {len(verdicts)} things {verb}."
