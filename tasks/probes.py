"""Asking a running release once, as its users would."""

import ssl
from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from functools import cache
from typing import Any
from urllib.parse import urljoin
from uuid import uuid4

import httpx

from delivery.application import Smoke
from delivery.errors import TransientError
from delivery.health import ProbeResult
from delivery.ports import Address
from tasks.retry import QUICK

TIMEOUT_SECONDS = 10.0
UNIQUE = "{unique}"
_SIDE_BY_SIDE = 8
_SHOWN_BODY = 120


@cache
def certificates() -> ssl.SSLContext:
    """Whom to believe over https. Reading all authorities takes some 20 ms, so once per process."""
    return httpx.create_ssl_context(trust_env=False)


def smoke(requests: Sequence[Smoke], addresses: Sequence[Address], *, on_copy: bool = False) -> tuple[ProbeResult, ...]:
    """Sends each smoke request to every replica of its service; a service without a replica to ask is not well. What may write is left
    out, unless the replicas work `on_copy`, on a copy of the database that nobody uses.
    """
    asked: list[tuple[str, str, Smoke]] = []
    results: list[ProbeResult] = []
    for request in (one for one in requests if on_copy or not one.writes):
        replicas = [address for address in addresses if address.service == request.service]
        asked += [(address.replica, address.url, request) for address in replicas]
        if not replicas:
            detail = f"there is no replica of {request.service} to ask for {request.path}."
            results.append(ProbeResult(f"smoke {request.service}", well=False, detail=detail))
    with (
        httpx.Client(timeout=TIMEOUT_SECONDS, trust_env=False, verify=certificates()) as client,
        ThreadPoolExecutor(_SIDE_BY_SIDE) as threads,
    ):
        results += threads.map(lambda each: _ask(client, *each), asked)
    return tuple(results)


def _ask(client: httpx.Client, who: str, base: str, request: Smoke) -> ProbeResult:
    name = f"smoke {who} {request.path if not request.writes else request.name}"
    question = request.name
    try:
        answer = QUICK.call(lambda: _sent(client, base, request))
    except TransientError as broken:
        return ProbeResult(name, well=False, detail=f"{who} did not answer {question}: {broken.what}")
    if answer.status_code != request.status:
        detail = f"{who} answered {answer.status_code} to {question}, expected {request.status}."
        return ProbeResult(name, well=False, detail=detail)
    if request.contains is not None and request.contains not in answer.text:
        shown = answer.text[:_SHOWN_BODY].replace("\n", " ")
        detail = f"{who} answered {question} without {request.contains!r}; its answer begins with {shown!r}."
        return ProbeResult(name, well=False, detail=detail)
    return ProbeResult(name, well=True)


def _sent(client: httpx.Client, base: str, request: Smoke) -> httpx.Response:
    """No answer at all may be chance, and is asked again, what writes with another `{unique}`; any answer counts."""
    word = uuid4().hex
    path, body = request.path, request.body
    if request.writes:
        path, body = path.replace(UNIQUE, word), _with(body, word)
    try:
        return client.request(request.method, urljoin(base, path), json=body)
    except httpx.TimeoutException as broken:
        raise TransientError(f"no answer within {TIMEOUT_SECONDS:g} s.", next="look at the release's logs.") from broken
    except httpx.TransportError as broken:
        raise TransientError(f"the connection failed ({type(broken).__name__}).", next="look at the release's logs.") from broken


def _with(value: Any, word: str) -> Any:
    """A JSON value with the word in its texts."""
    match value:
        case str():
            return value.replace(UNIQUE, word)
        case Mapping():
            return {key: _with(each, word) for key, each in value.items()}
        case list() | tuple():
            return [_with(each, word) for each in value]
        case _:
            return value
