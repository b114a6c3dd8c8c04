"""What went on beside all of that, by itself."""

import pytest

from tests.system.premises import Premises, until

pytestmark = [pytest.mark.docker, pytest.mark.prefect]


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
