"""Twelve secrets of different shapes, and every spelling in which one may be found."""

import base64
import html
import json
from urllib.parse import quote, quote_plus

DATABASE_PASSWORD = "d8-p@ss/w%rd:x?y"
SECRETS = {
    "a plain token": "plain-3f8a61c2e94b",
    "a password inside an address": DATABASE_PASSWORD,
    "a key of several lines": "-----BEGIN PRIVATE KEY-----\nMC4CAQAwBQYDK2VwBCIEIPla\nnted8f3c/aa+0Bx9Tq==\n-----END PRIVATE KEY-----",
    "a document": '{"type": "service", "key": "doc-77c1\\nd02e"}',
    "quotes and backslashes": "q\"uo'te\\d-51b9",
    "other letters": "schlüssel-ñ-ключ-9d41",
    "markup": "<b>&amp;'x'</b>-40ae",
    "base64 already": "bm90LWEtc2VjcmV0LWJ1dC1vbmUhIQ+/==",
    "a Slack token": "xoxb-2851-7731-planted",
    "a registry's password": "ghp_PLANTED4f6b2a9d7e",
    "a Git token": "glpat-planted-a83e_11",
    "a tool's token": "tool.planted/5c:e0",
}


def spelled(secret: str) -> dict[str, str]:
    """Written down here once more, so that a spelling which the product forgets is missed."""
    data = secret.encode()
    return {
        "as it is": secret,
        "as JSON": json.dumps(secret)[1:-1],
        "as JSON in its own letters": json.dumps(secret, ensure_ascii=False)[1:-1],
        "by repr": repr(secret)[1:-1],
        "as an address": quote(secret, safe=""),
        "as a path": quote(secret),
        "as a form": quote_plus(secret),
        "as HTML": html.escape(secret),
        "in base64": base64.b64encode(data).decode(),
        "in base64 for addresses": base64.urlsafe_b64encode(data).decode().rstrip("="),
        "in base64 after a name": base64.b64encode(b"me:" + data).decode(),
    } | {f"line {number}": line for number, line in enumerate(secret.splitlines())}


def searched(how: str, spelling: str) -> str:
    """Of base64 the middle: its ends depend on what stands around it."""
    return spelling.rstrip("=")[4:-1] if "base64" in how else spelling


def found_in(text: bytes) -> list[str]:
    """Which of them stands there, and how."""
    return [
        f"{what}, {how}"
        for what, secret in SECRETS.items()
        for how, spelling in spelled(secret).items()
        if searched(how, spelling).encode() in text
    ]
