"""Users of a release's API while something is done to it."""

import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field

import httpx


@dataclass
class Users:
    """They ask for the listings, over and over; `lost` is what they got instead."""

    answered: int = 0
    lost: list[str] = field(default_factory=list)

    def ask(self, client: httpx.Client, url: str) -> None:
        try:
            status = client.get(f"{url}/api/listings?limit=1").status_code
        except httpx.HTTPError as broken:
            self.lost.append(type(broken).__name__)
            return
        if status == httpx.codes.OK:
            self.answered += 1
        else:
            self.lost.append(str(status))


@contextmanager
def users(url: str) -> Iterator[Users]:
    found, gone = Users(), threading.Event()

    def live() -> None:
        with httpx.Client(timeout=10, trust_env=False) as client:
            while not gone.wait(0.02):
                found.ask(client, url)

    thread = threading.Thread(target=live)
    thread.start()
    try:
        yield found
    finally:
        gone.set()
        thread.join()
