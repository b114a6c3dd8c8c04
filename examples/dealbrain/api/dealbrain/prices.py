"""Money, in cents."""


def discount_percent(price_cents: int, list_price_cents: int) -> int:
    """How many per cent below the list price, rounded; 0 where it is not below.

    A list price of 0 means that none is known: no discount either.
    """
    if list_price_cents <= 0 or price_cents >= list_price_cents:
        return 0
    return round(100 * (list_price_cents - price_cents) / list_price_cents)
