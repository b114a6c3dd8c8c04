"""Each morning: how old the secrets of every environment are, as a table; whoever renews them is told once per version and verdict."""

import json
from collections.abc import Sequence

from prefect import flow

from blocks.settings import environment_names
from delivery.errors import DeliveryError
from delivery.secret_age import Age, SecretAge, failing
from flows.assembly import House, open_house
from flows.examination import secret_ages
from flows.messages import in_one_message
from flows.telling import leave_artifact, this_run

RENEW = "renew them: docs/operating.md, The age of secrets."


@flow(name="secret-age", flow_run_name="secret age", retries=0, persist_result=False)
@in_one_message
def secret_age() -> str:
    """Leaves a table of every environment's secrets with version, day, age, owner and verdict. The run fails when one is overdue."""
    with open_house() as house:
        found, failures = look(house)
        told = sentence(found)
        tell(house, found)
        if run_id := this_run():
            leave_artifact(run_id, "secret-age", "table", json.dumps(rows(found)), told)
        overdue = [f"{name}: {one.sentence()}" for name, ages in found.items() for one in failing(ages)]
        if overdue or failures:
            raise DeliveryError(". ".join([told, *overdue, *failures]), next=RENEW if overdue else "correct what is named.")
        return told


def look(house: House, environment: str | None = None) -> tuple[dict[str, tuple[SecretAge, ...]], tuple[str, ...]]:
    """The ages by environment, and why those that are not there could not be looked at."""
    found, failures = {}, []
    for name in [environment] if environment else environment_names(house.settings.environments_dir):
        try:
            found[name] = secret_ages(house, name)
        except DeliveryError as broken:
            failures.append(f"{name} could not be looked at: {broken.what}")
    return found, tuple(failures)


def rows(found: dict[str, tuple[SecretAge, ...]]) -> Sequence[dict[str, object]]:
    """As the table has them; what nobody knows is null."""
    return [
        {
            "environment": environment,
            "secret": one.name,
            "version": one.kept and one.kept.version,
            "created": one.kept and one.kept.created and one.kept.created.isoformat(),
            "days": one.days,
            "owner": one.kept and one.kept.owner,
            "verdict": one.age.value,
            "waived": one.waiver and f"{one.waiver.owner} until {one.waiver.until}: {one.waiver.reason}",
        }
        for environment, ages in found.items()
        for one in ages
    ]


def sentence(found: dict[str, tuple[SecretAge, ...]]) -> str:
    everything = [one for ages in found.values() for one in ages]
    counts = [(age, sum(one.age is age for one in everything)) for age in Age]
    told = ", ".join(f"{count} {age.value}" for age, count in counts if count)
    return f"{len(everything)} secrets: {told}." if everything else "No secrets."


def tell(house: House, found: dict[str, tuple[SecretAge, ...]]) -> None:
    """Once for each version of a secret and each verdict, so that nobody is told the same every morning."""
    for environment, ages in found.items():
        for one in ages:
            if one.kept is not None and one.age is not Age.FRESH:
                key = f"{environment}/secret-age-{one.name}-v{one.kept.version}-{one.age.name.lower()}"
                house.store.put_notice(key, f"{environment.capitalize()}: {one.sentence()}.", None, once=True)
