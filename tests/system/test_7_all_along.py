"""What went on beside all of that, by itself."""

import json
from datetime import datetime, timedelta

import pytest

from delivery.journal import Ending
from tasks.delivery_report import duration
from tests.system.premises import Premises, until

pytestmark = [pytest.mark.docker, pytest.mark.prefect]


def test_the_metrics_table_in_prefect_equals_the_rollouts_counted_by_hand(premises: Premises):
    premises.lived("1.0.0")
    premises.users["production"].start()  # without them nobody could tell how 1.1.0 fares
    premises.lived("1.1.0")
    run = premises.ended(premises.start("delivery-metrics/delivery-metrics"))
    assert run.state == "COMPLETED", run.message
    rows = json.loads(premises.api.artifact(run.id, "delivery-metrics"))
    told = {(row["environment"], row["figure"]): row["last 28 days"] for row in rows}
    for environment in ("staging", "production"):
        records = [record for record in premises.journal.rollouts(environment=environment, limit=500) if record.kind != "rollback"]
        served = [record for record in records if record.promoted_at or record.ending is Ending.ROLLED_BACK]
        number = f"({len(served)} deployment{'' if len(served) == 1 else 's'}, on "
        assert number in told[environment, "Deployment frequency"]
        assert told[environment, "Change fail rate"].endswith(f" of {len(served)})")
    # Before 1.0.0 there was nothing, so that only the commit of 1.1.0 has a time: until it had every user, seconds before it was promoted.
    sha = premises.commits["1.1.0"]
    there = [record.promoted_at for record in premises.rollouts_of(sha) if record.environment == "production" and record.promoted_at]
    took = min(there) - datetime.fromisoformat(premises.repository.git("show", "--no-patch", "--format=%cI", str(sha)).strip())
    words = {f"{duration(took - timedelta(seconds=seconds))} (median of 1 commit)" for seconds in range(60)}
    assert told["production", "Change lead time"].partition(";")[0] in words


@pytest.mark.parametrize("environment", ["production", "staging"])
def test_no_user_saw_an_error_through_all_of_it(premises: Premises, environment: str):
    users = premises.users[environment]
    if not users.got():
        pytest.skip(f"Nobody used {environment}: the tests before this one were left out. Next: run the whole folder.")
    users.stop()
    assert users.failures() == []
    assert users.versions() == {"1.0.0", "1.1.0"}


def test_the_second_net_looks_every_minute_without_being_asked(premises: Premises):
    wanted = {
        "flows": {"name": {"any_": ["recover"]}},
        "flow_runs": {"state": {"type": {"any_": ["COMPLETED"]}}},
        "sort": "START_TIME_DESC",
        "limit": 50,
    }

    def by_itself() -> str | None:
        runs = premises.http.post("/flow_runs/filter", json=wanted).raise_for_status().json()
        return next((str(run["state"]["message"]) for run in runs if run["auto_scheduled"]), None)

    assert until(by_itself, "a run of recover that nobody asked for")
