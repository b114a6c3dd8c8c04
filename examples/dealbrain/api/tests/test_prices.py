import pytest

from dealbrain.prices import discount_percent


@pytest.mark.parametrize(
    ("price", "list_price", "percent"),
    [
        (75, 100, 25),
        (100, 100, 0),
        (120, 100, 0),
        (49_900, 59_900, 17),
        (100, 0, 0),
    ],
)
def test_the_discount_is_rounded_and_never_negative(
    price: int, list_price: int, percent: int
) -> None:
    assert discount_percent(price, list_price) == percent
