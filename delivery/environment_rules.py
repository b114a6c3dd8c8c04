"""Whether an environment gives the services of a release what they need, and nothing that belongs elsewhere: each declared variable has a
value, nothing debugs where users are, keys are strong, and no two environments share a secret or a database.

Values are looked at once, by `look`; what is kept of them tells neither a secret nor how to guess it, and messages hold names only.
"""

import hashlib
import hmac
import math
import re
from collections import Counter
from collections.abc import Collection, Iterable, Iterator, Mapping
from dataclasses import dataclass
from itertools import pairwise
from urllib.parse import unquote, urlsplit

from delivery.application import STRICT, Service
from delivery.literal_secrets import has_secret_shape, is_secret_name

LEAST_KEY_BYTES = 32
# By Shannon's measure over the key's own characters: 32 hexadecimal digits by chance have about 115 bits.
LEAST_KEY_BITS = 80.0
_SHORTEST_SHARED = 6  # shorter values are alike by chance

_OFF = frozenset(("", "0", "false", "no", "off", "n", "f", "none", "disabled"))
_DEBUG_SWITCHES = re.compile(r"(?:[A-Z0-9]+_)*DEBUG|PYTHONASYNCIODEBUG|PYTHONDEVMODE|(?:[A-Z0-9]+_)*DEV_MODE", re.IGNORECASE)
_MODES = re.compile(r"(?:NODE|FLASK|DJANGO|APP|RAILS|RACK|QUART)_ENV", re.IGNORECASE)
_DEVELOPMENT = frozenset(("development", "develop", "dev", "debug", "local", "test", "testing"))
_LEVELS = re.compile(r"(?:[A-Z0-9]+_)*LOG(?:GING)?_?LEVEL", re.IGNORECASE)
_LOUD = frozenset(("debug", "trace", "all", "notset", "10"))
_KEYS = re.compile(
    r"(?:[A-Z0-9]+_)*(?:(?:SECRET|SIGNING|ENCRYPTION|SESSION|COOKIE|JWT|MASTER|APP)_KEY(?:_BASE)?|(?:JWT|SESSION|COOKIE|CSRF)_SECRET|SECRET)"
    r"(?:_(?:\d+|OLD|NEW|PREVIOUS|NEXT))?",
    re.IGNORECASE,
)
_GUESSED = re.compile(r"change.?me|insecure|password|default|example|secret.?key|replace.?me|your.?secret", re.IGNORECASE)
_DATABASES = {"postgres": 5432, "mysql": 3306, "mariadb": 3306, "mssql": 1433, "mongodb": 27017, "redis": 6379}


@dataclass(frozen=True)
class ValueRules:
    """`shared` are variables whose secret may be another environment's as well, for instance the token of an error tracker."""

    __pydantic_config__ = STRICT

    shared: tuple[str, ...] = ()


@dataclass(frozen=True)
class Known:
    """What is kept of one value. `secret` and `database` are fingerprints under the caller's key, "" where there is nothing to compare;
    `weakness` says why a key is no key.
    """

    empty: bool = False
    debugs: str = ""
    loud: bool = False
    weakness: str = ""
    secret: str = ""
    database: str = ""
    malformed: str = ""
    postgresql: bool = False


@dataclass(frozen=True)
class Values:
    """One environment as far as it can be seen. `whole` is False where its platform may have further values that nobody here sees; `first`
    where it comes after no other.
    """

    environment: str
    first: bool
    known: Mapping[str, Known]
    whole: bool


@dataclass(frozen=True)
class Trouble:
    """`certain` keeps releases out; the rest is worth a look."""

    what: str
    next: str
    certain: bool = True


def look(name: str, value: str, *, key: bytes, place: str) -> Known:
    """What may be kept of a value. `place` is where names of hosts without a dot are known: another network has another `db`."""

    def fingerprint(text: str) -> str:
        return hmac.new(key, text.encode(), hashlib.sha256).hexdigest()

    database, malformed = _database_of(value, place)
    secret = _secret_in(name, value)
    return Known(
        empty=not value.strip(),
        debugs=_how_it_debugs(name, value),
        loud=bool(_LEVELS.fullmatch(name)) and value.strip().casefold() in _LOUD,
        weakness=_weakness_of(value) if _KEYS.fullmatch(name) and value.strip() else "",
        secret=fingerprint(secret) if len(secret) >= _SHORTEST_SHARED else "",
        database=fingerprint(database) if database else "",
        malformed=malformed,
        postgresql=re.match(r"postgres(?:ql)?(?:\+[a-z0-9_]+)?://", value) is not None,
    )


def troubles(
    here: Values, others: Iterable[Values], services: Collection[Service], *, migrated: str = "", shared: Collection[str] = ()
) -> tuple[Trouble, ...]:
    """Everything that is wrong with an environment for these services (none: with the environment alone). `migrated` is the variable by
    which their migrations find the database.
    """
    alone = (*_missing(here, services), *_unfit(here, migrated), *_debugging(here, services), *_weak(here))
    return (*alone, *_twice(here, others, frozenset(shared)))


def _missing(here: Values, services: Collection[Service]) -> Iterator[Trouble]:
    for service in services:
        absent = [name for name in service.variables if name not in here.known]
        empty = [name for name in service.variables if name in here.known and here.known[name].empty]
        where = f"add it to [variables] of {here.environment}.toml, or to the environment's secrets."
        if absent:
            yield Trouble(f"service {service.name} needs {', '.join(absent)}, which {here.environment} lacks", where, certain=here.whole)
        if empty:
            yield Trouble(f"service {service.name} needs {', '.join(empty)}, which is empty in {here.environment}", where)


def _unfit(here: Values, migrated: str) -> Iterator[Trouble]:
    for name, known in here.known.items():
        if known.malformed:
            yield Trouble(f"{name} of {here.environment} is no address of a database: {known.malformed}", "correct it where it is kept.")
        elif name == migrated and not known.empty and not known.postgresql:
            told = f"{name} of {here.environment}, which migrations need, is not the address of a PostgreSQL database"
            yield Trouble(told, "write postgresql://user:password@host/database, with your driver.")


def _debugging(here: Values, services: Collection[Service]) -> Iterator[Trouble]:
    own = {
        f"{name} of service {service.name}": look(name, value, key=b"", place="")
        for service in services
        for name, value in service.settings.items()
    }
    for name, known in {**own, **here.known}.items():
        if known.debugs:
            told = f"{name} {known.debugs} in {here.environment}"
            yield Trouble(told, "switch it off where it is set.", certain=not here.first)
        elif known.loud and not here.first:
            yield Trouble(f"{name} logs everything in {here.environment}", "INFO or WARNING tells enough.", certain=False)


def _weak(here: Values) -> Iterator[Trouble]:
    for name, known in here.known.items():
        if known.weakness:
            advice = "make another one: python -c 'import secrets; print(secrets.token_urlsafe(48))'."
            yield Trouble(f"{name} of {here.environment} is no key: {known.weakness}", advice, certain=not here.first)


def _twice(here: Values, others: Iterable[Values], shared: frozenset[str]) -> Iterator[Trouble]:
    for other in others:
        for name, known in here.known.items():
            same = sorted(one for one, value in other.known.items() if known.database and value.database == known.database)
            if same:
                told = f"{name} of {here.environment} is the database that {other.environment} has as {', '.join(same)}"
                yield Trouble(told, "give each environment a database of its own.")
            alike = sorted(one for one, value in other.known.items() if known.secret and value.secret == known.secret)
            if alike and name not in shared:
                told = f"{name} of {here.environment} has the secret of {', '.join(alike)} in {other.environment}"
                yield Trouble(told, f"give each its own, or name it in [values] shared of {here.environment}.toml.")


def _how_it_debugs(name: str, value: str) -> str:
    said = value.strip().casefold()
    if _DEBUG_SWITCHES.fullmatch(name) and said not in _OFF:
        return "is switched on"
    if _MODES.fullmatch(name) and said in _DEVELOPMENT:
        return "is the mode of developers"
    return ""


def _weakness_of(value: str) -> str:
    data = value.encode()
    if len(data) < LEAST_KEY_BYTES:
        return f"got {len(data)} bytes, expected {LEAST_KEY_BYTES} or more"
    bits = -sum(count * math.log2(count / len(data)) for count in Counter(data).values())
    triples = {data[at : at + 3] for at in range(len(data) - 2)}
    steps = [abs(after - before) <= 1 for before, after in pairwise(data)]
    if bits < LEAST_KEY_BITS or 5 * len(triples) < 3 * len(data) or 3 * sum(steps) > 2 * len(steps):
        return "got few different characters, a row, or the same over and over, expected what chance makes"
    return "got words that everybody tries first, expected what chance makes" if _GUESSED.search(value) else ""


def _secret_in(name: str, value: str) -> str:
    """What must not be another environment's too: the password of an address, a token, what a variable holds that is named so."""
    if "://" in value:
        try:
            return unquote(urlsplit(value).password or "")
        except ValueError:
            return ""
    return value if is_secret_name(name) or _KEYS.fullmatch(name) or has_secret_shape(value) else ""


def _database_of(value: str, place: str) -> tuple[str, str]:
    """Which database an address leads to, whoever logs in and by whichever driver; and what keeps it from being an address."""
    scheme, found, _ = value.partition("://")
    kind = {"postgresql": "postgres", "rediss": "redis"}.get(spelled := scheme.casefold().partition("+")[0], spelled)
    if not found or kind not in _DATABASES:
        return "", ""
    try:
        parts = urlsplit(value)
        host, port = parts.hostname or "", parts.port or _DATABASES[kind]
    except ValueError:
        return "", "its port or host cannot be read (a slash, colon or @ in a password is written %2F, %3A, %40)"
    if not host:
        return "", ""
    where = host if "." in host and not host.startswith("127.") else f"{place}/{host}"
    return f"{kind} {where} {port} {parts.path.strip('/') or '0'}", ""
