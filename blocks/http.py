"""One HTTP client per process: making one costs some 20 ms (it reads all certificates), using one costs a millisecond."""

from functools import cache

import httpx


@cache
def shared_client() -> httpx.Client:
    """For plain GETs inside a machine or a network of our own; no proxy from the environment stands between. Safe to use from threads."""
    return httpx.Client(trust_env=False, timeout=3.0, limits=httpx.Limits(max_keepalive_connections=32, keepalive_expiry=20.0))
