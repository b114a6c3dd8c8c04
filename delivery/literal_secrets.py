"""Secrets that stand as plain text where many read them: told by the name of a variable, by the shape of a value, by a login in an address.

What is found is never shown. A guess by name may be wrong, hence each refusal says what would be taken.
"""

import re
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass

from delivery.addresses import hosts_with_login, is_loopback

# The last word counts: PASSWORD_MIN_LENGTH and TOKEN_URL are no secrets.
_SECRET_NAME = re.compile(
    r"(?:^|.*[_.-])(?:[A-Z0-9]*PASSWORD|PASSWD|PASSPHRASE|PWD|SECRET|TOKEN|CREDENTIALS?|APIKEY"
    r"|(?:API|SECRET|PRIVATE|ACCESS|SIGNING|ENCRYPTION|AUTH|JWT|SESSION|MASTER)_?KEY)(?:[_-]?(?:\d+|OLD|NEW|PREVIOUS|NEXT))?",
    re.IGNORECASE,
)
_SHAPES = re.compile(
    r"\b(?:AKIA|ASIA)[0-9A-Z]{16}\b"
    r"|\bgh[pousr]_[A-Za-z0-9]{30,}|\bgithub_pat_[A-Za-z0-9_]{22,}|\bglpat-[A-Za-z0-9_-]{20,}"
    r"|\bxox[abeoprs]-[A-Za-z0-9-]{10,}|\bxapp-[A-Za-z0-9-]{10,}|hooks\.slack\.com/(?:services|workflows)/[A-Za-z0-9/]{16,}"
    r"|\b[sr]k_(?:live|test)_[A-Za-z0-9]{16,}|\bwhsec_[A-Za-z0-9+/=]{16,}|\bsk-[A-Za-z0-9_-]{20,}"
    r"|\bnpm_[A-Za-z0-9]{30,}|\bpypi-[A-Za-z0-9_-]{30,}|\bdckr_pat_[A-Za-z0-9_-]{20,}"
    r"|\bAIza[0-9A-Za-z_-]{35}|\bSG\.[A-Za-z0-9_-]{16,}\.[A-Za-z0-9_-]{16,}|\bAGE-SECRET-KEY-1[0-9A-Z]{20,}"
    r"|\beyJ[A-Za-z0-9_-]{10,}\.[A-Za-z0-9_-]{10,}\.[A-Za-z0-9_-]{5,}"
    r"|-----BEGIN [A-Z ]*PRIVATE KEY-----"
)
# What such a variable may hold without being a secret: whether there is one.
_SWITCHES = frozenset(("", "0", "1", "true", "false", "yes", "no", "on", "off", "none"))
# What says of itself that it is none. Whole words: chance makes them of no secret.
_SAYS_SO = re.compile(r"(?<![a-z0-9])(?:throw-?away|tests?|testing|dummy|example|fake|e2e)(?![a-z0-9])", re.IGNORECASE)

SECRETS_BLOCK = "expected it in the environment's secrets block"


@dataclass(frozen=True)
class ThrownAway:
    """What lives only as long as tests run: the hosts of the backing services, and the words with which these were set up."""

    hosts: frozenset[str] = frozenset()
    words: frozenset[str] = frozenset()


def is_secret_name(name: str) -> bool:
    """Whether a variable of this name holds a secret, by its last word."""
    return _SECRET_NAME.fullmatch(name) is not None


def has_secret_shape(text: str) -> bool:
    """Whether a text holds what services hand out as tokens and keys."""
    return _SHAPES.search(text) is not None


def looks_secret(text: str) -> bool:
    """Whether a text is better not shown to anybody."""
    return has_secret_shape(text) or bool(hosts_with_login(text))


def plain_secrets(here: str, settings: Mapping[str, str], *, tests: ThrownAway | None = None) -> Iterator[str]:
    """Every variable whose value is a secret, as `key: got …, expected …`. What is for `tests` may log in to what is thrown away with them,
    and may be called a secret when it says of itself that it is none; anything may log in to a database on loopback.
    """
    for name, value in settings.items():
        if why := why_plain_secret(value, tests=tests) or _why_by_name(name, value, tests):
            yield f"{here}.{name}: {why}"


def why_plain_secret(value: str, *, tests: ThrownAway | None = None) -> str | None:
    """What is wrong with a text wherever it stands; None when nothing is."""
    if has_secret_shape(value):
        return f"got a secret as plain text (not shown), {SECRETS_BLOCK}"
    allowed = tests.hosts if tests else frozenset()
    if any(not is_loopback(host) and host not in allowed for host in hosts_with_login(value)):
        return f"got an address with a login in it (not shown), {SECRETS_BLOCK}"
    return None


def _why_by_name(name: str, value: str, tests: ThrownAway | None) -> str | None:
    if not is_secret_name(name) or value.casefold() in _SWITCHES:
        return None
    if tests is None:
        return f"got a secret as plain text (not shown), {SECRETS_BLOCK}"
    if value in tests.words or _SAYS_SO.search(value):
        return None
    return "got a secret as plain text (not shown), expected a value that says of itself that it is none, with throw-away or test in it"


def thrown_away(backing: Iterable[tuple[str, Mapping[str, str]]]) -> ThrownAway:
    """Of the backing services, each by its name and its settings."""
    services = list(backing)
    return ThrownAway(
        hosts=frozenset(name.casefold() for name, _ in services),
        words=frozenset(value for _, settings in services for value in settings.values()),
    )
