"""A release's evidence from commit to users, read and verified link by link."""

from collections.abc import Container, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from delivery.dsse import Keys, NotProven, read_envelope
from delivery.errors import DeliveryError
from delivery.image_policy import ImagePolicy
from delivery.image_scan import require_fresh, scan_sentence, signed_sboms
from delivery.journal import Ending, Opened
from delivery.links import Link, Stage, fingerprint_of, link_in
from delivery.ports import JournalStore, Registry
from delivery.provenance import PROVENANCE_V1, ProvenancePolicy
from delivery.record import RolloutRecord
from delivery.release import Release
from delivery.sbom import CYCLONEDX
from delivery.statement import statement_in
from tasks.trust import proof_of

_LOOK = "find out who wrote to the journal."


@dataclass(frozen=True)
class Finding:
    """One piece of evidence: `what` is one sentence, whether it holds or not; `signed_by` the name of the key."""

    stage: str
    about: str
    well: bool
    what: str
    signed_by: str | None = None


@dataclass(frozen=True)
class _Signed:
    link: Link
    key: str


def examine(
    release: Release,
    policy: ProvenancePolicy,
    image: ImagePolicy,
    *,
    store: JournalStore,
    keys: Keys,
    registry: Registry | None,
) -> Sequence[Finding]:
    """Everything that is to be said about a release, in the order of its life. It is whole when every finding is well."""
    kept = store.envelopes(release.build)
    findings = [_provenance(release, service.name, policy, kept, keys, registry) for service in release.services]
    links, broken = _links(release, policy, kept, keys)
    findings += broken
    findings += [_stage(links, Stage.TESTS), _stage(links, Stage.END_TO_END)]
    findings += [_scan(links, release, image, store, registry)] if image.scan_days else []
    for record in _promotions(store, release):
        findings += _promotion(store, record, links)
    return tuple(findings)


def signed_facts(release: Release, stage: Stage, policy: ProvenancePolicy, *, store: JournalStore, keys: Keys) -> Mapping[str, Any] | None:
    """What a trusted key last said about a stage of the release; None when none said anything that holds."""
    links, _ = _links(release, policy, store.envelopes(release.build), keys)
    found = [one for one in links if one.link.stage is stage]
    return found[-1].link.facts if found else None


def _provenance(
    release: Release, service: str, policy: ProvenancePolicy, kept: Sequence[bytes], keys: Keys, registry: Registry | None
) -> Finding:
    proof = proof_of(release, service, policy, kept=kept, keys=keys, registry=registry)
    if isinstance(proof, str):
        return Finding("provenance", service, well=False, what=proof)
    said = proof.statement.predicate["buildDefinition"]["externalParameters"]
    details = proof.statement.predicate["runDetails"]
    what = (
        f"{release.images[service].digest} was built from {said['repository']} at {said['commit'][:12]} "
        f"({said['branch'] or 'no main branch'}) by {details['builder']['id']} in {details.get('metadata', {}).get('invocationId', '?')}"
    )
    return Finding("provenance", service, well=True, what=what, signed_by=proof.key)


def _links(release: Release, policy: ProvenancePolicy, kept: Sequence[bytes], keys: Keys) -> tuple[list[_Signed], list[Finding]]:
    """The links that hold, and a finding for each envelope that does not."""
    links, broken, known = list[_Signed](), list[Finding](), {""}
    for number, data in enumerate(kept, 1):
        try:
            link = _link(data, release, policy, keys, known)
        except NotProven as refused:
            broken.append(Finding("chain", f"envelope {number}", well=False, what=refused.what))
        else:
            known.add(fingerprint_of(data))
            links += [link] if link else []
    return links, broken


def _link(data: bytes, release: Release, policy: ProvenancePolicy, keys: Keys, known: Container[str]) -> _Signed | None:
    """The link in an envelope; None for a provenance, which was looked at. `known` are the fingerprints of what came before."""
    envelope = read_envelope(data)
    key = keys.signer_of(envelope, policy.keys)
    if key is None:
        raise NotProven("No trusted key signed it, or it was changed afterwards.", next=_LOOK)
    statement = statement_in(envelope)
    if statement.predicate_type == PROVENANCE_V1:
        return None
    link = link_in(statement)
    if link.release != release.build or not statement.is_about_all(release.images.values()):
        raise NotProven("It is about another release, or about other images.", next=_LOOK)
    if link.after not in known:
        raise NotProven("What was signed before it is gone.", next=_LOOK)
    return _Signed(link, key)


def _stage(links: Sequence[_Signed], stage: Stage) -> Finding:
    found = [one for one in links if one.link.stage is stage]
    if not found:
        return Finding(stage, "", well=False, what="nothing was signed")
    facts = found[-1].link.facts
    return Finding(stage, "", well=True, what=_sentences(facts) or "none is declared", signed_by=found[-1].key)


def _scan(links: Sequence[_Signed], release: Release, image: ImagePolicy, store: JournalStore, registry: Registry | None) -> Finding:
    """The newest scan: young enough, and the registry still has the bills of materials that were signed."""
    found = [one for one in links if one.link.stage is Stage.SCAN]
    facts, key = (found[-1].link.facts, found[-1].key) if found else (None, None)
    try:
        require_fresh(facts, release, image, store.now())
        told = scan_sentence(facts or {})
        require_same_sboms(facts or {}, release, registry)
    except DeliveryError as broken:
        return Finding(Stage.SCAN, "", well=False, what=broken.what, signed_by=key)
    return Finding(Stage.SCAN, "", well=True, what=told, signed_by=key)


def require_same_sboms(facts: Mapping[str, Any], release: Release, registry: Registry | None) -> None:
    """Raises `NotProven` unless each image's bill of materials lies beside it as it was signed; without a registry nobody can tell."""
    for service, digest in signed_sboms(facts, release).items() if registry is not None else ():
        beside = registry.documents(release.images[service], CYCLONEDX) if registry is not None else ()
        if digest.removeprefix("sha256:") not in {fingerprint_of(document) for document in beside}:
            raise NotProven(
                f"The bill of materials of {service} in the registry is not the one that was signed.",
                next=f"find out who wrote into the registry; `greenroom scan {release.id}` makes it anew.",
            )


def _promotions(store: JournalStore, release: Release) -> Iterator[RolloutRecord]:
    """Every rollout that brought the release to users, oldest first; going back to it needs no link of its own."""
    for record in reversed(store.rollouts(limit=10_000)):
        if record.build == release.build and record.promoted_at and record.kind != "rollback" and record.ending is not None:
            yield record


def _promotion(store: JournalStore, record: RolloutRecord, links: Sequence[_Signed]) -> Iterator[Finding]:
    opening = store.entries(record.id)[0].event
    request = opening.plan.request if isinstance(opening, Opened) else None
    if request is not None:
        yield _approval(store, record.environment, request, links)
    yield _rollout(store, record, links)


def _approval(store: JournalStore, environment: str, number: int, links: Sequence[_Signed]) -> Finding:
    def is_it(link: Link) -> bool:
        return link.stage is Stage.APPROVAL and link.environment == environment and link.facts.get("request") == number

    found = [one for one in links if is_it(one.link)]
    if not found:
        return Finding(Stage.APPROVAL, environment, well=False, what=f"nothing was signed about request {number}")
    facts, key = found[-1].link.facts, found[-1].key
    request = store.request(number)
    now = approval_facts(request.plan_hash, number, [(one.person, one.decision, one.reason, one.channel) for one in request.approvals])
    if any(facts.get(name) != now[name] for name in ("plan", "words")):
        return Finding(
            Stage.APPROVAL, environment, well=False, what=f"request {number} in the journal is not what was signed", signed_by=key
        )
    words = "; ".join(_said(word) for word in facts["words"]) or "by policy, nobody was asked"
    return Finding(Stage.APPROVAL, environment, well=True, what=f"request {number}: {words}", signed_by=key)


def _said(word: Mapping[str, str]) -> str:
    loud = " BROKE THE GLASS" if word["decision"] == "break-glass" else ""
    return f"{word['person']}{loud}: {word['reason'] or word['decision']}"


def approval_facts(plan_hash: str, number: int, words: Sequence[tuple[str, str, str, str]]) -> Mapping[str, Any]:
    """What an approval's link says: the plan, and each person's word."""
    named = ("person", "decision", "reason", "channel")
    return {"request": number, "plan": plan_hash, "words": [dict(zip(named, word, strict=True)) for word in words]}


def _rollout(store: JournalStore, record: RolloutRecord, links: Sequence[_Signed]) -> Finding:
    found = [one for one in links if one.link.stage is Stage.ROLLOUT and one.link.facts.get("rollout") == record.id]
    if not found:
        return Finding(Stage.ROLLOUT, record.environment, well=False, what=f"nothing was signed about {record.id}")
    key = found[-1].key
    try:
        store.verify_chain(record.id)
    except DeliveryError as broken:
        return Finding(Stage.ROLLOUT, record.environment, well=False, what=broken.what, signed_by=key)
    if found[-1].link.facts != rollout_facts(store, record):
        what = f"{record.id} in the journal is not what was signed"
        return Finding(Stage.ROLLOUT, record.environment, well=False, what=what, signed_by=key)
    well = record.ending is Ending.LIVE
    return Finding(Stage.ROLLOUT, record.environment, well=well, what=f"{record.id}: {record.message}", signed_by=key)


def rollout_facts(store: JournalStore, record: RolloutRecord) -> Mapping[str, Any]:
    """What a rollout's link says. The last entry's hash stands for all before it, so that the signature covers the whole journal of it."""
    return {
        "rollout": record.id,
        "ending": str(record.ending),
        "message": record.message or "",
        "journal": store.entries(record.id)[-1].hash,
    }


def _sentences(facts: Mapping[str, Any]) -> str:
    return "; ".join(str(sentence) for sentence in facts.values())
