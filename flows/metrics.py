"""Once a day: how well releases reach their users, as artifacts that a team looks at."""

import json
from itertools import groupby
from uuid import UUID

from prefect import flow

from flows.assembly import open_house
from flows.messages import in_one_message
from flows.parameters import Days
from flows.telling import leave_artifact, this_run
from tasks.delivery_report import NOTHING_YET, Delivered, delivered, metrics_markdown, metrics_rows, sentence

Artifact = tuple[str, str, str, str]


@flow(name="delivery-metrics", flow_run_name="delivery metrics", retries=0, persist_result=False)
@in_one_message
def delivery_metrics(days: Days = 28) -> str:
    """Measures deployment frequency, lead time, fail rate, recovery and rework from the journal, and leaves a page per environment.

    Args:
        days: How many UTC days back to look, today included.

    """
    with open_house() as house:
        found = delivered(house.store, days=days)
        run_id = this_run()
        if run_id:
            leave(run_id, found)
        return " ".join(sentence(told) for told in found) or NOTHING_YET


def leave(run_id: UUID, found: tuple[Delivered, ...]) -> None:
    for key, kind, data, description in artifacts_of(found):
        leave_artifact(run_id, key, kind, data, description)


def artifacts_of(found: tuple[Delivered, ...]) -> list[Artifact]:
    """Key, type, data and description: a page per environment, and one table of everything."""
    made: list[Artifact] = []
    for environment, those in groupby(found, key=lambda told: told.seen.environment):
        here = list(those)
        told = " ".join(sentence(one) for one in here)
        made.append((f"delivery-metrics-{environment}", "markdown", metrics_markdown(here), told))
    made.append(("delivery-metrics", "table", json.dumps(metrics_rows(found)), "The delivery metrics of every environment"))
    return made
