"""Secrets kept out of whatever people read: each in the spellings in which it can turn up, and those that this process has met.

A secret is made known where it enters the process (a block that is loaded, a setting that is read) and hidden where text leaves it.
"""

import base64
import html
import json
import logging
import re
import threading
import traceback
from collections.abc import Callable, Iterable, Iterator
from urllib.parse import quote, quote_plus, unquote, urlsplit

HIDDEN = "***"
# Shorter values ("1", "on") are no secrets worth the name, and hiding them would make every log unreadable.
SHORTEST_SECRET = 4
# A shorter piece of base64 stands in too many innocent words.
_SHORTEST_PIECE = 8
_WRAPPED_AT = (64, 76)  # where PEM files and MIME break their lines
_LOGIN_IN_ADDRESS = re.compile(r"(?<=://)[^/\s:@]*:[^/\s@]+(?=@)")


class Redactor:
    """Replaces secrets, and logins inside addresses, by stars. Values shorter than four characters are not searched."""

    def __init__(self, secrets: Iterable[str]) -> None:
        found = {spelling for secret in secrets for spelling in spellings(secret)}
        # Longest first, so that a secret that contains another one does not leave its rest behind.
        self._spellings = sorted(found, key=len, reverse=True)

    def __call__(self, text: str) -> str:
        text = _LOGIN_IN_ADDRESS.sub(HIDDEN, text)
        for spelling in self._spellings:  # many times quicker than one pattern of hundreds of alternatives
            text = text.replace(spelling, HIDDEN)
        return text


def spellings(secret: str) -> set[str]:
    """The secret as it is, its lines, the password of an address, and each of them URL-encoded, JSON- or HTML-escaped and in base64."""
    values = {secret, *(line.strip() for line in secret.splitlines()), *passwords_in(secret)}
    found = set()
    for value in values:
        if len(value) >= SHORTEST_SECRET:
            found |= {value, *_escaped(value), *_in_base64(value)}
    return {spelling for spelling in found if len(spelling) >= SHORTEST_SECRET}


def passwords_in(value: str) -> set[str]:
    """The password of an address, as it stands there and as it is meant; nothing for what is no address."""
    try:
        password = urlsplit(value).password
    except ValueError:
        return set()
    return {password, unquote(password)} if password else set()


def _escaped(value: str) -> Iterator[str]:
    for encoded in (quote(value, safe="", errors="replace"), quote(value, errors="replace"), quote_plus(value, errors="replace")):
        yield encoded
        yield re.sub("%[0-9A-F]{2}", lambda code: code[0].lower(), encoded)
    for escaped in (json.dumps(value)[1:-1], json.dumps(value, ensure_ascii=False)[1:-1], repr(value)[1:-1]):
        yield escaped
        yield json.dumps(escaped)[1:-1]  # text that holds JSON, as text in JSON
    yield html.escape(value)
    yield html.escape(value, quote=False)


def _in_base64(value: str) -> Iterator[str]:
    """Also inside something longer (`user:password`): of the three ways in which it can lie there, what depends on nothing else."""
    data = value.encode("utf-8", "replace")
    for before in range(3):
        text = base64.b64encode(b"\0" * before + data).decode()
        # Characters at both ends that hold bits of neighbours as well are left out.
        piece = text[(0, 2, 3)[before] : (before + len(data)) * 8 // 6]
        pieces = {piece, *(text[start : start + width] for width in _WRAPPED_AT for start in range(0, len(text), width) if not before)}
        for one in pieces:
            if len(one) >= _SHORTEST_PIECE:
                yield one
                yield one.replace("+", "-").replace("/", "_")


class _Known:
    """The secrets that this process has met. They are only ever added: one that was rotated may still turn up in a late message."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._secrets: frozenset[str] = frozenset()
        self._redact = Redactor(())

    def add(self, secrets: Iterable[str]) -> None:
        with self._lock:
            more = self._secrets | frozenset(secrets)
            if more != self._secrets:
                self._secrets, self._redact = more, Redactor(more)

    def redact(self, text: str) -> str:
        return self._redact(text)


_known = _Known()


def know(secrets: Iterable[str]) -> None:
    """From now on no text that passes through `redacted` in this process shows these values."""
    _known.add(secrets)


def redacted(text: str) -> str:
    """The text without what this process knows to be secret, and without logins inside addresses."""
    return _known.redact(text)


def redacted_within(value: object) -> object:
    """The same for every text inside lists and dictionaries; keys stay as they are, numbers too."""
    match value:
        case str():
            return redacted(value)
        case dict():
            return {key: redacted_within(inner) for key, inner in value.items()}
        case list() | tuple():
            return [redacted_within(inner) for inner in value]
        case _:
            return value


def harmless(error: Exception) -> Exception:
    """The error itself when neither its text nor that of its causes shows a secret, else one that tells the same without it.

    Who raises the answer does so `from None`: else the causes are told all the same.
    """
    told = "".join(traceback.format_exception(error))
    clean = redacted(told)
    return error if clean == told else Unforeseen(f"{type(error).__name__}, told without what is secret in it:\n{clean}")


class Unforeseen(RuntimeError):  # noqa: N818  what nobody foresaw, told in safe words
    """Stands for an error whose own text held a secret."""


def hide_secrets_in_logs() -> None:
    """Every record that this process logs from now on, by whatever library, is redacted, its traceback too. Twice is once."""
    make = logging.getLogRecordFactory()
    if not isinstance(make, _RedactingFactory):
        logging.setLogRecordFactory(_RedactingFactory(make))


class _RedactingFactory:
    def __init__(self, make: Callable[..., logging.LogRecord]) -> None:
        self._make = make

    def __call__(self, *arguments: object, **named: object) -> logging.LogRecord:
        record = self._make(*arguments, **named)
        try:
            told = record.getMessage()
        except (TypeError, ValueError):  # arguments that do not fit the message: logging itself complains about that
            return record
        if (clean := redacted(told)) != told:
            record.msg, record.args = clean, ()
        error = record.exc_info[1] if record.exc_info else None
        if isinstance(error, Exception) and (stand_in := harmless(error)) is not error:
            # The one text that every formatter takes, instead of making it anew from the error.
            record.exc_info, record.exc_text = None, str(stand_in)
        return record
