"""`greenroom scan`: a published release is held against what is known today, and the answer is signed."""

from cli.house import open_local_house
from cli.journal import release_named


def scan(release: str) -> str:
    """What was found, in one sentence. Raises `DeliveryError` with what stops the release."""
    from flows.scanning import scan_again

    with open_local_house() as house:
        return scan_again(house, release_named(house.store, release))
