from fastapi.testclient import TestClient

MAC = {"key": "k-1", "title": "Mac mini", "price_cents": 49_900}


def test_a_listing_keeps_its_condition(client: TestClient) -> None:
    client.post("/api/listings", json={**MAC, "condition": "used"})
    assert client.get("/api/listings/1").json()["condition"] == "used"


def test_the_condition_may_be_unknown(client: TestClient) -> None:
    client.post("/api/listings", json=MAC)
    assert client.get("/api/listings/1").json()["condition"] is None


def test_another_condition_is_refused(client: TestClient) -> None:
    answer = client.post("/api/listings", json={**MAC, "condition": "shiny"})
    assert answer.status_code == 422
