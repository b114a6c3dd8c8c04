"""Signed envelopes: what is signed, and the one shape in which it travels (https://github.com/secure-systems-lab/dsse, version 1.0.2).

The payload's bytes are signed and are what is read afterwards: nothing is ever signed again after parsing.
"""

import base64
import binascii
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

from delivery.errors import DeliveryError

IN_TOTO = "application/vnd.in-toto+json"
BUNDLE = "application/vnd.dev.sigstore.bundle"
LARGEST_ENVELOPE = 1024 * 1024


class NotProven(DeliveryError):  # noqa: N818  reads as the sentence it is
    """No signature that counts says what is claimed."""


@dataclass(frozen=True)
class Signature:
    """`key_id` is a hint for finding the key; it is not signed and proves nothing."""

    key_id: str
    value: bytes


@dataclass(frozen=True)
class Envelope:
    """`bundle` is the Sigstore bundle around it, as it was written; empty when a key signed it, and nothing else has to be known."""

    payload_type: str
    payload: bytes
    signatures: tuple[Signature, ...]
    bundle: bytes = b""

    @property
    def signed_bytes(self) -> bytes:
        return signed_bytes(self.payload_type, self.payload)

    def written(self) -> bytes:
        """The envelope as JSON, the same bytes for the same envelope."""
        if self.bundle:
            return self.bundle
        document = {
            "payload": base64.b64encode(self.payload).decode(),
            "payloadType": self.payload_type,
            "signatures": [{"keyid": one.key_id, "sig": base64.b64encode(one.value).decode()} for one in self.signatures],
        }
        return json.dumps(document, sort_keys=True, separators=(",", ":")).encode()


class Signer(Protocol):
    """Something that holds a private key, or knows where it lies."""

    def sign(self, payload_type: str, payload: bytes) -> Envelope: ...


class Keys(Protocol):
    """Public keys by name."""

    def signer_of(self, envelope: Envelope, trusted: Sequence[str]) -> str | None:
        """The first of the `trusted` keys by which the envelope is signed; None when it is signed by none of them."""
        ...


def signed_bytes(payload_type: str, payload: bytes) -> bytes:
    """The pre-authentication encoding: what a signature is made over. Lengths are in bytes."""
    kind = payload_type.encode()
    return b"DSSEv1 %d %b %d %b" % (len(kind), kind, len(payload), payload)


def read_envelope(data: bytes) -> Envelope:
    """The envelope in `data`, plain or in a Sigstore bundle. Raises `NotProven` for anything that is not exactly one."""
    document = read_json(data, "signed envelope")
    bundled = is_bundle(document)
    try:
        document = document["dsseEnvelope"] if bundled else document
        signatures = tuple(Signature(_text(one.get("keyid", "")), _bytes(one["sig"])) for one in document["signatures"])
        envelope = Envelope(_text(document["payloadType"]), _bytes(document["payload"]), signatures, bundle=data if bundled else b"")
    except (KeyError, TypeError, AttributeError, ValueError, binascii.Error):
        raise not_readable("signed envelope") from None
    if not signatures:
        raise not_readable("signed envelope")
    return envelope


def is_bundle(document: Mapping[str, Any]) -> bool:
    """Whether it says of itself that it is a Sigstore bundle (https://github.com/sigstore/protobuf-specs, version 0.3)."""
    return str(document.get("mediaType", "")).startswith(BUNDLE)


def read_json(data: bytes, what: str) -> Mapping[str, Any]:
    """A JSON object; a name that stands twice is refused, since two readers might take different ones."""
    if len(data) > LARGEST_ENVELOPE:
        raise NotProven(f"A {what} is larger than {LARGEST_ENVELOPE} bytes.", next="find out who put it there.")
    try:
        document = json.loads(data.decode(), object_pairs_hook=_once_each)
    except (ValueError, RecursionError):
        raise not_readable(what) from None
    if not isinstance(document, dict):
        raise not_readable(what)
    return document


def not_readable(what: str) -> NotProven:
    return NotProven(f"What should be a {what} cannot be read.", next="find out who put it there, and publish the release anew.")


def _once_each(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    found = dict(pairs)
    if len(found) != len(pairs):
        raise ValueError("a name stands twice")
    return found


def _text(value: object) -> str:
    if not isinstance(value, str):
        raise TypeError
    return value


def _bytes(value: object) -> bytes:
    return base64.b64decode(_text(value), validate=True)
