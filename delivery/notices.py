"""How the key of a notice is read, and how long a service that failed is left alone.

`production/request-12` is a message that is updated through its life; `production/request-12#plan` a detail in its thread, and
`production/request-12#urgent-waiting` one that everybody shall see; `production/request-12@` news that are worth telling only where a
message can be updated.
"""

from datetime import timedelta

PASSING = "@"
URGENT = "urgent"
LONGEST_PAUSE = timedelta(minutes=5)


def environment_of(key: str) -> str:
    return key.partition("/")[0]


def message_of(key: str) -> str:
    """The key of the message that is updated, or in whose thread it is told."""
    return key.partition("#")[0].removesuffix(PASSING)


def is_detail(key: str) -> bool:
    return "#" in key


def is_urgent(key: str) -> bool:
    return key.partition("#")[2].startswith(URGENT)


def is_passing(key: str) -> bool:
    return key.endswith(PASSING)


def pause_after(failures: int) -> timedelta:
    """After so many failures in a row: 5 s, 10 s, and so on up to five minutes."""
    return min(LONGEST_PAUSE, timedelta(seconds=5 * 2 ** min(failures - 1, 10)))
