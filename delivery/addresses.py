"""What an address that somebody writes down may be: no login in it, and nothing secret sent to another machine in the clear."""

import re
from ipaddress import ip_address
from urllib.parse import urlsplit

_LOGIN = re.compile(r"(?P<scheme>[A-Za-z][A-Za-z0-9+.-]*)://(?P<login>[^\s/?#\"']*)@(?P<host>\[[0-9A-Fa-f:.]+\]|[^\s/?#:,\"']*)")
# Whoever writes a slash or a question mark into the password of a database has written no address, and a password all the same.
_DATABASE = re.compile(
    r"(?:postgres|mysql|mariadb|mongodb|redis|amqp|mssql|oracle)[a-z0-9+]*://(?P<login>[^\s\"']*)@(?P<host>[^\s/?#:,\"'@]*)", re.IGNORECASE
)
_DSN_PASSWORD = re.compile(r"(?:^|[\s;?&])(?:password|passwd|pwd)\s*=\s*[^\s;&]+", re.IGNORECASE)
_DSN_HOST = re.compile(r"(?:^|[\s;?&])host\s*=\s*([^\s;&]+)", re.IGNORECASE)


def is_loopback(host: str) -> bool:
    """Whether a host is this very machine, whichever machine that is; a socket (no host at all) is."""
    name = host.strip("[]").casefold()
    if name in ("", "localhost") or name.endswith(".localhost"):
        return True
    try:
        return ip_address(name).is_loopback
    except ValueError:
        return False


def hosts_with_login(text: str) -> frozenset[str]:
    """The hosts of all addresses in a text that carry a password or, over http, a user: `https://TOKEN@host` is a login too."""
    found = {
        match["host"] for match in _LOGIN.finditer(text) if ":" in match["login"].rstrip(":") or match["scheme"].lower().startswith("http")
    }
    found |= {match["host"] for match in _DATABASE.finditer(text) if ":" in match["login"].rstrip(":")}
    if _DSN_PASSWORD.search(text):
        found |= set(_DSN_HOST.findall(text)) or {""}
    return frozenset(host.strip("[]").casefold() for host in found)


def why_not(address: str, *, secret: bool) -> str | None:
    """What keeps an http address from being used, without showing it; None when nothing does. With `secret` the address itself, or what is
    sent there, must not be read on the way: another machine is then spoken to by https only.
    """
    try:
        parts = urlsplit(address)
        host, _port = parts.hostname or "", parts.port
    except ValueError:
        return "got what is no address, expected https://host/path"
    if parts.scheme not in ("http", "https") or not host or re.search(r"[\s\x00-\x1f\x7f]", address):
        return "got what is no address, expected https://host/path"
    if parts.username is not None or parts.password is not None:
        return "got an address with a login in it (not shown), expected one without; a token has a field of its own"
    if secret and parts.scheme == "http" and not is_loopback(host):
        return "got an address that is spoken to in the clear, expected https:// (http:// to this very machine only)"
    return None
