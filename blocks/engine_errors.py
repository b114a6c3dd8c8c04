"""A Docker engine's errors in our words: what may be tried again, what may not; never with a secret."""

import contextlib
import re
from collections.abc import Callable, Iterator

import requests
import urllib3
from docker.errors import APIError, DockerException, NotFound

from delivery.errors import DeliveryError, TransientError

# What an engine says of a registry that may answer otherwise the next time, and of one that will not.
_PASSING = re.compile(
    r"\b(?:429|5\d\d)\b|too ?many ?requests|time-?out|timed out|deadline exceeded|connection re(?:fused|set)|broken pipe|\bEOF\b|"
    r"no such host|no route to host|network is unreachable|server misbehaving|unavailable|internal server error|temporary failure",
    re.IGNORECASE,
)
_REFUSED = re.compile(r"unauthorized|denied|authentication required|no basic auth|\b40[13]\b", re.IGNORECASE)
_LATE = "look at the engine's log and at the machine's load."


class MissingError(DeliveryError):
    """The engine knows no such thing."""


class LateError(TransientError):
    """The engine has not answered yet."""


def may_pass(said: str) -> bool:
    """Whether an engine's words about a registry tell of something that may be otherwise the next time."""
    return bool(_PASSING.search(said)) and not is_refusal(said)


def is_refusal(said: str) -> bool:
    """Whether an engine's words about a registry tell of a login that it does not take."""
    return bool(_REFUSED.search(said))


@contextlib.contextmanager
def telling(doing: str, redact: Callable[[str], str]) -> Iterator[None]:
    """Foreign errors become ours: `MissingError`, `LateError`, `TransientError` for a silent engine, else what `refused` says."""
    try:
        yield
    except NotFound as missing:
        raise MissingError(
            f"The engine could not {doing}: {redact(_said(missing))}.", next="prepare and launch the release again."
        ) from None
    except APIError as error:
        raise refused(doing, redact(_said(error)), status=int(error.status_code or 0)) from None
    except (requests.exceptions.ReadTimeout, urllib3.exceptions.ReadTimeoutError):
        raise LateError(f"The engine took too long to {doing}.", next=_LATE) from None
    except requests.exceptions.ConnectionError as broken:
        if "Read timed out" in str(broken):
            raise LateError(f"The engine took too long to {doing}.", next=_LATE) from None
        raise _silent(doing) from None
    # Streams are read below requests, and so a stream that breaks off tells of it in urllib3's words.
    except (DockerException, requests.RequestException, urllib3.exceptions.HTTPError, OSError):
        raise _silent(doing) from None


def refused(doing: str, said: str, *, status: int) -> DeliveryError:
    """What the engine said no to. A server's error, a conflict with another writer, and a registry in trouble may pass; a registry that
    takes no login will not, nor will a full disk, though the engine passes both on as errors of its own.
    """
    sentence = f"The engine could not {doing}: {said[:300].strip().rstrip('.')}."
    if is_refusal(said):
        return DeliveryError(sentence, next="look at the login and the rights that this needs.")
    if "no space left" in said:
        return DeliveryError(sentence, next="make room on the engine's disk: `docker system df` shows what takes it.")
    if status >= 500 or status == 409 or may_pass(said):
        return TransientError(sentence, next="try again; if it stays, look at the engine's log.")
    return DeliveryError(sentence, next="look at the engine's log.")


def _silent(doing: str) -> TransientError:
    return TransientError(f"The Docker engine did not answer when asked to {doing}.", next="look whether it runs: `docker info`.")


def _said(error: APIError) -> str:
    return str(error.explanation or (error.response.reason if error.response is not None else "no reason given"))
