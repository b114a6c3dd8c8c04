"""How good a deal is."""


def deal_score(price_cents: int, list_price_cents: int) -> int:
    """From 0 (at the list price or above) to 10 (for nothing)."""
    saved = 1 - price_cents / list_price_cents
    return max(0, round(10 * saved))
