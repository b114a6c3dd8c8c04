"""Asking an environment's public endpoints as its users do, once each."""

import json
import logging
import socket
import time
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from urllib.parse import urljoin

import httpx

from delivery.verification import Answer, Endpoint
from tasks.probes import certificates
from tasks.retry import ONCE, retried

log = logging.getLogger("greenroom.verification")

LARGEST_BYTES = 2_000_000
_SIDE_BY_SIDE = 8
_SHOWN_BODY = 120


@retried(ONCE, name="ask public endpoints", run_name="ask public endpoints")
def ask_endpoints(url: str, endpoints: Sequence[Endpoint], *, timeout_seconds: float) -> tuple[Answer, ...]:
    """One answer per endpoint, in their order. Nothing is asked twice: chance is what counting in a row is for. Never raises."""
    with (
        httpx.Client(timeout=timeout_seconds, trust_env=False, verify=certificates()) as client,
        ThreadPoolExecutor(_SIDE_BY_SIDE) as threads,
    ):
        return tuple(threads.map(lambda endpoint: ask_endpoint(client, url, endpoint, timeout_seconds=timeout_seconds), endpoints))


def ask_endpoint(client: httpx.Client, url: str, endpoint: Endpoint, *, timeout_seconds: float) -> Answer:
    """What is wrong on our side (a name that this machine cannot resolve, a prober that breaks) is unknown; no answer in time is sick."""
    try:
        status, body, was_complete = _get(client, urljoin(url, endpoint.path), timeout_seconds)
    except httpx.TimeoutException:
        return Answer(endpoint.name, "sick", f"no answer within {timeout_seconds:g} s.")
    except httpx.TransportError as broken:
        if _is_name_trouble(broken):
            return Answer(endpoint.name, "unknown", "this machine could not resolve the public address.")
        return Answer(endpoint.name, "sick", f"the connection failed ({type(broken).__name__}).")
    except Exception as broken:  # a prober that breaks must not send users anywhere
        log.debug("The prober broke", exc_info=True)
        return Answer(endpoint.name, "unknown", f"the prober broke ({type(broken).__name__}).")
    wrong = _what_is_wrong(endpoint, status, body) if was_complete else f"its answer was not complete within {timeout_seconds:g} s."
    return Answer(endpoint.name, "sick", wrong) if wrong else Answer(endpoint.name, "well", f"it answered {status}.")


def _get(client: httpx.Client, url: str, seconds: float) -> tuple[int, str, bool]:
    """Status, body and whether it came in time: httpx bounds each read, and a server that trickles would keep us for ever."""
    deadline = time.monotonic() + seconds
    with client.stream("GET", url) as answer:
        read = bytearray()
        for chunk in answer.iter_bytes():
            read += chunk
            if time.monotonic() > deadline:
                return answer.status_code, "", False
            if len(read) > LARGEST_BYTES:
                break
        return answer.status_code, read.decode(answer.encoding or "utf-8", "replace"), True


def _what_is_wrong(endpoint: Endpoint, status: int, body: str) -> str | None:
    if status != endpoint.status:
        return f"it answered {status}, expected {endpoint.status}."
    if endpoint.contains is not None and endpoint.contains not in body:
        shown = body[:_SHOWN_BODY].replace("\n", " ")
        return f"it answered without {endpoint.contains!r}; the answer begins with {shown!r}."
    if endpoint.version is not None and (version := _version_in(body)) != endpoint.version:
        return f"it answered {f'version {version}' if version else 'no version'}, expected {endpoint.version}."
    return None


def _version_in(body: str) -> str | None:
    try:
        said = json.loads(body)
    except ValueError:
        return None
    return str(said["version"])[:80] if isinstance(said, dict) and said.get("version") else None


def _is_name_trouble(error: BaseException) -> bool:
    cause: BaseException | None = error
    while cause is not None:
        if isinstance(cause, socket.gaierror):
            return True
        cause = cause.__cause__ or cause.__context__
    return False
