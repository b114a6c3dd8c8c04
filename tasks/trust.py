"""Whether a release is what an environment trusts: every image signed, by a key that counts, as built from what the policy names.

Called before anything is started, before a promotion, and before going back.
"""

import logging
from collections.abc import Sequence
from dataclasses import dataclass

from delivery.dsse import Keys, NotProven, read_envelope
from delivery.ports import JournalStore, Registry
from delivery.provenance import PROVENANCE_V1, ProvenancePolicy, objections
from delivery.release import Release
from delivery.statement import Statement, statement_in

log = logging.getLogger("greenroom.trust")


@dataclass(frozen=True)
class Proof:
    """The signed statement that proves an image, and the name of the key."""

    statement: Statement
    key: str


def require_proven(release: Release, policy: ProvenancePolicy, *, store: JournalStore, keys: Keys, registry: Registry | None) -> None:
    """Raises `NotProven`, naming the image and why, unless each image of the release has a signed provenance that the policy accepts."""
    if not policy.required:
        return
    kept = store.envelopes(release.build)
    for service in release.services:
        proof = proof_of(release, service.name, policy, kept=kept, keys=keys, registry=registry)
        if isinstance(proof, str):
            image = release.images[service.name]
            raise NotProven(
                f"The image of {service.name} in {release.version.tag} is not proven: {proof} ({image.repository}@{image.digest[:19]}…).",
                next="find out who made it; release the commit anew under another version. The environment file says what counts.",
            )


def proof_of(
    release: Release, service: str, policy: ProvenancePolicy, *, kept: Sequence[bytes], keys: Keys, registry: Registry | None
) -> Proof | str:
    """What proves the image of one service, or in words why nothing does.

    The journal's copies are looked at first, so that going back needs no registry; a copy proves as much as the original, since the
    signature is what counts. Then the registry is asked, if there is one.
    """
    proof = _best(release, service, policy, kept, keys)
    if isinstance(proof, str) and registry is not None:
        return _best(release, service, policy, registry.attached(release.images[service]), keys)
    return proof


def _best(release: Release, service: str, policy: ProvenancePolicy, candidates: Sequence[bytes], keys: Keys) -> Proof | str:
    signed = [one for data in candidates if (one := _signed(data, policy, keys)) is not None]
    provenances = [one for one in signed if one.statement.predicate_type == PROVENANCE_V1]
    against = [(objections(one.statement, release, service, policy), one) for one in provenances]
    if against:
        least, best = min(against, key=_how_many)  # the one with the fewest objections is the one that was meant
        return "; ".join(least) if least else best
    if signed or not candidates:
        return "nobody signed where it comes from"
    return f"none of {len(candidates)} signatures beside it is by a trusted key"


def _how_many(found: tuple[tuple[str, ...], Proof]) -> int:
    return len(found[0])


def _signed(data: bytes, policy: ProvenancePolicy, keys: Keys) -> Proof | None:
    """What a trusted key signed; None when none did, so that the words count for nothing."""
    try:
        envelope = read_envelope(data)
        key = keys.signer_of(envelope, policy.keys)
        return Proof(statement_in(envelope), key) if key is not None else None
    except NotProven as unreadable:
        log.warning("%s", unreadable)
        return None
