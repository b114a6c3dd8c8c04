"""Values of `delivery` as JSON documents and back. What is written here is hashed, so equal values give equal text everywhere."""

import hashlib
import json
from typing import Any, TypeVar

from pydantic import TypeAdapter, ValidationError

from delivery.errors import DeliveryError
from delivery.journal import Closed, Event, Finished, Opened, Promoted, Started, TurnedBack

T = TypeVar("T")

EVENTS: dict[str, type[Event]] = {kind.__name__: kind for kind in (Opened, Started, Finished, TurnedBack, Promoted, Closed)}


def to_document(value: object) -> Any:
    """What JSON can hold: dictionaries, lists, text, numbers. An event carries its class name under "event".

    NaN and infinity become null (not known). A fact of a type that JSON has no word for is written as its text: evidence must never
    keep a rollout from being recorded.
    """
    kind: type[Any] = type(value)
    document = adapter_of(kind).dump_python(value, mode="json", fallback=str)
    return {"event": kind.__name__, **document} if isinstance(value, Event) else document


def from_document(kind: type[T], document: Any) -> T:
    """The value that `to_document` wrote. Raises `DeliveryError` when the document is of another shape; unknown keys are refused."""
    try:
        adapter: TypeAdapter[T] = adapter_of(kind)
        return adapter.validate_python(document)
    except ValidationError as wrong:
        places = "; ".join(f"{'.'.join(map(str, error['loc'])) or 'document'}: {error['msg']}" for error in wrong.errors()[:5])
        raise DeliveryError(
            f"A stored {kind.__name__} cannot be read: {places}.",
            next="use the version of Greenroom that wrote it, or a newer one.",
        ) from None


def event_of(document: Any) -> Event:
    """The event that `to_document` wrote, found by its class name."""
    fields = dict(document)
    name = fields.pop("event", None)
    if name not in EVENTS:
        raise DeliveryError(
            f"A stored event has an unknown kind: got {name!r}, expected one of {', '.join(EVENTS)}.",
            next="use the version of Greenroom that wrote it, or a newer one.",
        )
    return from_document(EVENTS[name], fields)


def canonical(value: object) -> str:
    """The one text of a value: keys sorted, no spaces, UTF-8 as it is. Sets have no order, hence no place in what is hashed."""
    text = json.dumps(to_document(value), sort_keys=True, separators=(",", ":"), ensure_ascii=False, allow_nan=False)
    return text.encode("utf-8", "replace").decode()  # half characters, as broken tools print them, have no place in UTF-8


def fingerprint(value: object) -> str:
    """SHA-256 of the canonical text, 64 hex digits."""
    return hashlib.sha256(canonical(value).encode()).hexdigest()


_ADAPTERS: dict[type[Any], TypeAdapter[Any]] = {}


def adapter_of(kind: type[Any]) -> TypeAdapter[Any]:
    """What reads and writes values of a kind. Building one takes milliseconds for a plan; using one takes microseconds."""
    if kind not in _ADAPTERS:
        _ADAPTERS[kind] = TypeAdapter(kind)
    return _ADAPTERS[kind]
