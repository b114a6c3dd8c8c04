"""What became of a release, stage by stage, as signed words: each link names all its images and the link before it.

Whoever holds the signing key said so, at that time; whoever can only write to the journal can neither change a link nor take one out of the
middle.
"""

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Any

from delivery.dsse import NotProven
from delivery.release import Release
from delivery.statement import Statement, Subject

LINK_V1 = "urn:greenroom:link:v1"


class Stage(StrEnum):
    """In the order of a release's life. Approval and rollout are of an environment."""

    TESTS = "tests"
    END_TO_END = "end to end"
    SCAN = "scan"
    APPROVAL = "approval"
    ROLLOUT = "rollout"


@dataclass(frozen=True)
class Link:
    """`after` is the fingerprint of the envelope that was newest when this was signed; `facts` belong to the stage."""

    stage: Stage
    release: str
    after: str
    facts: Mapping[str, Any] = field(default_factory=dict)
    environment: str = ""

    def of(self, release: Release) -> Statement:
        """The link as a statement about all images of the release."""
        predicate = {
            "stage": self.stage.value,
            "release": self.release,
            "after": self.after,
            "environment": self.environment,
            "facts": dict(self.facts),
        }
        subjects = tuple(Subject.of(release.images[service.name]) for service in release.services)
        return Statement(subjects, LINK_V1, predicate)


def link_in(statement: Statement) -> Link:
    """The link that a statement holds. Raises `NotProven` for anything else."""
    said = statement.predicate
    texts = [said.get(key) for key in ("stage", "release", "after", "environment")]
    facts = said.get("facts")
    if statement.predicate_type != LINK_V1 or not all(isinstance(text, str) for text in texts) or not isinstance(facts, dict):
        raise NotProven("What should be a link of the chain is something else.", next="find out who signed it.")
    stage, release, after, environment = (str(text) for text in texts)
    if stage not in {known.value for known in Stage}:
        raise NotProven(
            f"A link is of an unknown stage: {stage[:40]!r}.", next="use the version of Greenroom that signed it, or a newer one."
        )
    return Link(Stage(stage), release, after, facts, environment)


def fingerprint_of(envelope: bytes) -> str:
    """What the next link calls this one."""
    return hashlib.sha256(envelope).hexdigest()
