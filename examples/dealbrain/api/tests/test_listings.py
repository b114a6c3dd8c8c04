import pytest
from conftest import World
from fastapi.testclient import TestClient

MAC = {"key": "k-1", "title": "Mac mini", "price_cents": 49_900}


def test_a_new_listing_is_created(client: TestClient) -> None:
    answer = client.post("/api/listings", json=MAC)
    assert answer.status_code == 201
    assert answer.json()["id"] == 1


def test_a_repeated_key_gives_the_first_listing(client: TestClient) -> None:
    client.post("/api/listings", json=MAC)
    answer = client.post("/api/listings", json={**MAC, "title": "another"})
    assert answer.status_code == 200
    assert answer.json()["title"] == "Mac mini"
    assert client.get("/api/listings/count").json() == {"count": 1}


def test_the_newest_listing_comes_first(client: TestClient) -> None:
    for number in (1, 2, 3):
        client.post("/api/listings", json={**MAC, "key": f"k-{number}"})
    newest = client.get("/api/listings?limit=2").json()
    assert [listing["key"] for listing in newest] == ["k-3", "k-2"]


def test_a_listing_shows_its_discount(client: TestClient) -> None:
    client.post("/api/listings", json={**MAC, "list_price_cents": 59_900})
    assert client.get("/api/listings/1").json()["discount_percent"] == 17


def test_an_unknown_listing_is_404(client: TestClient) -> None:
    assert client.get("/api/listings/7").status_code == 404


def test_counting_can_be_limited_to_a_prefix(client: TestClient) -> None:
    client.post("/api/listings", json=MAC)
    assert client.get("/api/listings/count?prefix=x").json() == {"count": 0}


@pytest.mark.parametrize(
    "wrong",
    [
        {"price_cents": 0},
        {"list_price_cents": 0},
        {"title": ""},
        {"key": ""},
        {"unknown": 1},
    ],
)
def test_a_wrong_listing_is_refused(client: TestClient, wrong: dict) -> None:
    assert client.post("/api/listings", json={**MAC, **wrong}).status_code == 422


def test_an_unforeseen_error_is_a_500(client: TestClient, world: World) -> None:
    async def broken(_: int) -> None:
        raise ZeroDivisionError

    world.listings.get = broken
    answer = client.get("/api/listings/1")
    assert answer.status_code == 500
    assert answer.json() == {"detail": "internal error"}
    assert answer.headers["x-release-version"] == "1.2.3"
