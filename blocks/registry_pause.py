"""How long a registry asks us to stay away (429 and `Retry-After`), and staying away for that long."""

import logging
import re
import time
from collections.abc import Callable
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime
from typing import TypeVar

import httpx

from delivery.errors import TransientError

log = logging.getLogger("greenroom.registry")

T = TypeVar("T")

LONGEST_PAUSE_SECONDS = 60.0
_LOOK_SECONDS = 5.0
_TOO_MANY = re.compile(r"\b429\b|too ?many ?requests", re.IGNORECASE)


def is_local(host: str) -> bool:
    """Whether a registry is on this machine: then it speaks plain HTTP, and no proxy may stand in between."""
    return host.split(":", maxsplit=1)[0] in ("127.0.0.1", "localhost")


def pause_in(answer: httpx.Response) -> float:
    """Seconds that an answer asks for in `Retry-After` (RFC 9110, 10.2.3: seconds or a date); 0 when it asks for none."""
    asked = answer.headers.get("Retry-After", "").strip()
    if not asked or answer.status_code != httpx.codes.TOO_MANY_REQUESTS:
        return 0.0
    if asked.isdigit():
        return float(asked)
    try:
        return max(0.0, (parsedate_to_datetime(asked) - datetime.now(UTC)).total_seconds())
    except (TypeError, ValueError):
        return 0.0


def pause_asked_by(registry: str, repository: str, reference: str) -> float:
    """Asks the registry itself, since the engine passes on that it was sent away and not for how long; 0 when that cannot be learnt."""
    local = is_local(registry)
    url = f"{'http' if local else 'https'}://{registry}/v2/{repository}/manifests/{reference}"
    try:
        with httpx.Client(timeout=_LOOK_SECONDS, trust_env=not local) as client:
            return pause_in(client.head(url))
    except httpx.HTTPError:
        return 0.0


def with_pauses(act: Callable[[], T], asked: Callable[[], float], *, sleep: Callable[[float], None] = time.sleep) -> T:
    """Acts again after each pause that was asked for, up to a minute of pauses in all; any other trouble is the caller's to retry."""
    left = LONGEST_PAUSE_SECONDS
    while True:
        try:
            return act()
        except TransientError as busy:
            seconds = min(asked(), left) if left > 0 and _TOO_MANY.search(busy.what) else 0.0
            if seconds <= 0:
                raise
            log.warning("%s It is asked again in %.0f s.", busy.what, seconds)
            sleep(seconds)
            left -= seconds
