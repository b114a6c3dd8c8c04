"""Whether a release is what an environment trusts: every image signed, by a key that counts, as built from what the policy names.

Called before anything is started, before a promotion, and before going back.
"""

import logging
from collections.abc import Iterable

from delivery.dsse import Envelope, Keys, NotProven, read_envelope
from delivery.ports import JournalStore, Registry
from delivery.provenance import ProvenancePolicy, objections
from delivery.release import Release
from delivery.statement import statement_in

log = logging.getLogger("greenroom.prove")


def require_proven(release: Release, policy: ProvenancePolicy, *, store: JournalStore, keys: Keys, registry: Registry | None) -> None:
    """Raises `NotProven`, naming the image and why, unless each image of the release has a signed provenance that the policy accepts.

    The journal's copies are looked at first, so that going back needs no registry; a copy proves as much as the original, since the
    signature is what counts. Then the registry is asked, if there is one.
    """
    if not policy.required:
        return
    kept = store.envelopes(release.id)
    for service in release.services:
        image, why = release.images[service.name], _why_not(release, service.name, policy, kept, keys)
        if why and registry is not None:
            why = _why_not(release, service.name, policy, registry.attached(image), keys)
        if why:
            raise NotProven(
                f"The image of {service.name} in {release.version.tag} is not proven: {why} ({image.repository}@{image.digest[:19]}…).",
                next="find out who made it; release the commit anew under another version. The environment file says what counts.",
            )


def _why_not(release: Release, service: str, policy: ProvenancePolicy, candidates: Iterable[bytes], keys: Keys) -> str | None:
    """None when one of the candidates proves the image; else what keeps the best of them from it."""
    found, reasons = 0, list[tuple[str, ...]]()
    for data in candidates:
        found += 1
        against = _objections(data, release, service, policy, keys)
        if against == ():
            return None
        reasons += [against] if against else []
    if reasons:  # the one with the fewest objections is the one that was meant
        return "; ".join(min((len(one), one) for one in reasons)[1])
    return f"none of {found} signatures beside it is by a trusted key" if found else "nobody signed where it comes from"


def _objections(data: bytes, release: Release, service: str, policy: ProvenancePolicy, keys: Keys) -> tuple[str, ...] | None:
    """What keeps one signed statement from proving the image; None when no trusted key signed it, so that its words count for nothing."""
    try:
        envelope: Envelope = read_envelope(data)
        if keys.signer_of(envelope, policy.keys) is None:
            return None
        return objections(statement_in(envelope), release, service, policy)
    except NotProven as unreadable:
        log.warning("%s", unreadable)
        return None
