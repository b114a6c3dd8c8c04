import pytest
from fastapi.testclient import TestClient

from dealbrain.deals import deal_score

MAC = {
    "key": "k-1",
    "title": "Mac mini",
    "price_cents": 30_000,
    "list_price_cents": 50_000,
    "seller": "Ada",
}


@pytest.mark.parametrize(
    ("price", "list_price", "score"),
    [(100, 100, 0), (120, 100, 0), (60, 100, 4), (1, 100, 10)],
)
def test_the_score_grows_with_what_is_saved(
    price: int, list_price: int, score: int
) -> None:
    assert deal_score(price, list_price) == score


def test_a_listing_shows_its_score_and_seller(client: TestClient) -> None:
    client.post("/api/listings", json=MAC)
    listing = client.get("/api/listings/1").json()
    assert (listing["deal_score"], listing["seller"]) == (4, "Ada")
