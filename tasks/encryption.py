"""What the TLS of a public address is worth: would a browser trust its certificate, for how long, and does it speak what is broken?"""

import socket
import ssl
import time
import warnings
from urllib.parse import urlsplit

from delivery.inspection_questions import Encryption, Trouble

TIMEOUT_SECONDS = 10.0
# OpenSSL's X509_V_ERR_*: not yet valid, expired; another name, another address.
_EXPIRED, _OTHER_NAME = (9, 10), (62, 64)
# What this machine's own library answers when it was built without the old protocols: then nobody was asked.
_NOT_OURS = ("NO_PROTOCOLS_AVAILABLE", "NO_CIPHERS_AVAILABLE")


def look_at_encryption(url: str) -> Encryption:
    """Two handshakes with an https address; no request is sent. Authorities are those of this machine (`SSL_CERT_FILE` adds one's own)."""
    trouble: Trouble | None = None
    days: float | None = None
    try:
        days = (ssl.cert_time_to_seconds(str(_certificate(url)["notAfter"])) - time.time()) / 86400
    except ssl.SSLCertVerificationError as refused:
        trouble = _trouble(refused.verify_code)
    except (OSError, ValueError) as broken:  # an `SSLError` is an `OSError`
        why = getattr(broken, "reason", None) or type(broken).__name__
        return Encryption(unknown=f"no connection by TLS 1.2 or newer could be made ({why})")
    old, unknown = _old_version(url)
    return Encryption(trouble=trouble, days_left=days, old_version=old, unknown=unknown)


def _certificate(url: str) -> dict[str, object]:
    host, address = _address(url)
    context = ssl.create_default_context()
    with socket.create_connection(address, TIMEOUT_SECONDS) as plain, context.wrap_socket(plain, server_hostname=host) as secure:
        found = secure.getpeercert()
    return dict(found or {})


def _trouble(code: int) -> Trouble:
    if code in _EXPIRED:
        return Trouble.EXPIRED
    return Trouble.NAME if code in _OTHER_NAME else Trouble.UNTRUSTED


def _old_version(url: str) -> tuple[str, str]:
    """(the protocol below TLS 1.2 that was agreed on, why that could not be asked)."""
    host, address = _address(url)
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.check_hostname, context.verify_mode = False, ssl.CERT_NONE  # nothing is sent: only the version is of interest
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)  # that they are old is why they are offered
        context.minimum_version, context.maximum_version = ssl.TLSVersion.TLSv1, ssl.TLSVersion.TLSv1_1
    context.set_ciphers("ALL:@SECLEVEL=0")
    try:
        with socket.create_connection(address, TIMEOUT_SECONDS) as plain, context.wrap_socket(plain, server_hostname=host) as secure:
            return secure.version() or "an old protocol", ""
    except ssl.SSLError as refused:
        return "", "this machine cannot offer protocols below TLS 1.2" if refused.reason in _NOT_OURS else ""
    except ConnectionError:  # hung up on: refused in another way
        return "", ""
    except OSError as broken:
        return "", f"whether protocols below TLS 1.2 are accepted could not be asked ({type(broken).__name__})"


def _address(url: str) -> tuple[str, tuple[str, int]]:
    parts = urlsplit(url)
    host = parts.hostname or ""
    return host, (host, parts.port or 443)
