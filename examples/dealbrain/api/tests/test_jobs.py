from conftest import World
from fastapi.testclient import TestClient


def test_a_job_is_accepted_and_queued(client: TestClient, world: World) -> None:
    answer = client.post("/api/jobs", json={"key": "j-1"})
    assert (answer.status_code, answer.json()) == (202, {"id": 1})
    assert world.jobs.queued == ["j-1"]


def test_a_repeated_job_keeps_its_id(client: TestClient) -> None:
    first = client.post("/api/jobs", json={"key": "j-1"}).json()
    assert client.post("/api/jobs", json={"key": "j-1"}).json() == first


def test_a_job_that_the_queue_did_not_take_is_not_accepted(
    client: TestClient, world: World
) -> None:
    world.jobs.away = True
    assert client.post("/api/jobs", json={"key": "j-1"}).status_code == 503


def test_jobs_done_are_counted(client: TestClient) -> None:
    client.post("/api/jobs", json={"key": "j-1"})
    assert client.get("/api/jobs/count").json() == {"count": 1}
