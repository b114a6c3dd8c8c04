import pytest
from conftest import World
from fastapi import FastAPI
from fastapi.testclient import TestClient


def test_a_replica_with_database_and_redis_is_healthy(client: TestClient) -> None:
    answer = client.get("/health")
    assert answer.status_code == 200
    report = answer.json()
    assert report.pop("uptime_seconds") >= 0
    assert report == {
        "status": "healthy",
        "version": "1.2.3",
        "database": "connected",
        "redis": "connected",
    }


@pytest.mark.parametrize("part", ["database", "redis"])
def test_a_replica_without_one_of_them_is_not(
    client: TestClient, world: World, part: str
) -> None:
    setattr(world, f"{part}_answers", False)
    answer = client.get("/health")
    assert answer.status_code == 503
    assert answer.json()["status"] == "unhealthy"
    assert answer.json()[part] == "disconnected"


def test_answers_are_counted_by_route_and_status(client: TestClient) -> None:
    client.get("/api/listings/7")
    page = client.get("/metrics").text
    route = 'method="GET",route="/api/listings/{listing_id}",status="404"'
    assert f"dealbrain_requests_total{{{route}}} 1.0" in page
    assert "dealbrain_redis_up 1.0" in page
    assert "dealbrain_redis_connections 5.0" in page
    assert "dealbrain_jobs_waiting 2.0" in page


def test_a_leaving_server_asks_clients_not_to_keep_the_connection(
    client: TestClient, app: FastAPI
) -> None:
    app.state.leaving = True
    assert client.get("/health").headers["connection"] == "close"
