"""Statements about images, as in-toto writes them (https://github.com/in-toto/attestation, Statement v1)."""

import json
import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

from delivery.dsse import IN_TOTO, Envelope, not_readable, read_json
from delivery.image import ImageRef

STATEMENT_V1 = "https://in-toto.io/Statement/v1"
_HEX = re.compile(r"[0-9a-f]{64}")


@dataclass(frozen=True)
class Subject:
    """What a statement is about. Only the digest counts; the name is for people."""

    name: str
    sha256: str

    @classmethod
    def of(cls, image: ImageRef) -> "Subject":
        return cls(f"{image.registry}/{image.repository}", image.digest.removeprefix("sha256:"))


@dataclass(frozen=True)
class Statement:
    """`predicate` is what is said about the subjects; its shape belongs to `predicate_type`."""

    subjects: tuple[Subject, ...]
    predicate_type: str
    predicate: Mapping[str, Any]

    def written(self) -> bytes:
        """As JSON, the same bytes for the same statement."""
        document = {
            "_type": STATEMENT_V1,
            "subject": [{"name": subject.name, "digest": {"sha256": subject.sha256}} for subject in self.subjects],
            "predicateType": self.predicate_type,
            "predicate": self.predicate,
        }
        return json.dumps(document, sort_keys=True, separators=(",", ":"), ensure_ascii=False, allow_nan=False).encode()

    def is_about(self, image: ImageRef) -> bool:
        return image.digest.removeprefix("sha256:") in {subject.sha256 for subject in self.subjects}

    def is_about_all(self, images: Iterable[ImageRef]) -> bool:
        """About these images and no others."""
        return {subject.sha256 for subject in self.subjects} == {image.digest.removeprefix("sha256:") for image in images}


def statement_in(envelope: Envelope) -> Statement:
    """The statement that an envelope carries. Raises `NotProven` for anything else. Look at the signature first."""
    if envelope.payload_type != IN_TOTO:
        raise not_readable("statement")
    document = read_json(envelope.payload, "statement")
    try:
        subjects = tuple(Subject(str(one.get("name", "")), one["digest"]["sha256"]) for one in document["subject"])
        kind, predicate = document["predicateType"], document["predicate"]
    except (KeyError, TypeError, AttributeError):
        raise not_readable("statement") from None
    whole = all(isinstance(subject.sha256, str) and _HEX.fullmatch(subject.sha256) for subject in subjects)
    if document.get("_type") != STATEMENT_V1 or not subjects or not whole or not isinstance(kind, str) or not isinstance(predicate, dict):
        raise not_readable("statement")
    return Statement(subjects, kind, predicate)
