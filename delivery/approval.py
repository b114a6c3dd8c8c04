"""Who may say yes, and whether they have."""

from collections.abc import Callable, Iterable
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from typing import Literal

from delivery.application import STRICT
from delivery.environment import ApprovalPolicy, Kind
from delivery.errors import InvalidSettings
from delivery.plan import Plan
from delivery.redaction import redacted


@dataclass(frozen=True)
class Approval:
    """One person's word on one request. `channel` is where it came from: ui, cli, api or policy; `signature` is by their SSH key."""

    __pydantic_config__ = STRICT

    person: str
    decision: Literal["approve", "reject", "break-glass"]
    reason: str
    channel: str
    at: datetime
    signature: str = ""


@dataclass(frozen=True)
class PromotionRequest:
    """A numbered wish to promote a release: the plan as it was frozen, bound by its hash.

    `key` is whose wish it is (the id of the flow run that waits); `closed` says why it no longer counts.
    """

    number: int
    key: str
    plan: Plan
    plan_hash: str
    opened_at: datetime
    expires_at: datetime
    approvals: tuple[Approval, ...] = ()
    closed: str | None = None


@dataclass(frozen=True)
class Pending:
    missing: int


@dataclass(frozen=True)
class Granted:
    """`glass` is the reason why the glass was broken; empty where it was not."""

    by: tuple[str, ...]
    glass: str = ""


@dataclass(frozen=True)
class Refused:
    by: str
    reason: str


@dataclass(frozen=True)
class Expired:
    at: datetime


Decision = Pending | Granted | Refused | Expired


def decide(
    policy: ApprovalPolicy,
    approvals: Iterable[Approval],
    *,
    kind: Kind,
    author: str,
    expires_at: datetime,
    now: datetime,
    glass: Approval | None = None,
) -> Decision:
    """What the approvals so far amount to.

    A rejection beats any number of approvals; the quorum counts distinct persons (names are compared without case or surrounding
    space); the author of the release does not count unless the policy lets them; nothing counts that was given after the expiry.
    `glass` is a word by which the glass was broken, verified: it stands for the quorum, and its person may be the author.
    """
    in_time = [approval for approval in approvals if approval.at < expires_at]
    for approval in in_time:
        if approval.decision == "reject":
            return Refused(approval.person, approval.reason)
    if policy.policy == "automatic" or kind in policy.automatic_for:
        return Granted(("policy",))
    if glass is not None and glass.at < expires_at:
        return Granted((glass.person,), glass=glass.reason)
    persons = {_same(approval.person): approval.person for approval in in_time if approval.decision == "approve"}
    if not policy.author_may_approve:
        persons.pop(_same(author), None)
    if len(persons) >= policy.quorum:
        return Granted(tuple(persons[key] for key in sorted(persons)))
    if now >= expires_at:
        return Expired(expires_at)
    return Pending(policy.quorum - len(persons))


def words_to_sign(request: PromotionRequest) -> bytes:
    """What a person signs to approve a request, readable: these images, this plan, here, until then, and nothing else."""
    return _written("greenroom approval v1", request)


def words_to_break_glass(request: PromotionRequest, reason: str) -> bytes:
    """What a person signs to break the glass. It says so and why: an approval's signature is none of this, and no reason can be put under
    it afterwards. Raises `InvalidSettings` without a reason, or with one that the journal would not keep word for word.
    """
    why = " ".join(reason.split())
    if not why or redacted(why) != why:
        raise InvalidSettings(
            "The glass is not broken without a reason, and not by one that looks like a secret.", next="say why in other words."
        )
    return _written("greenroom break-glass v1", request, f"reason {why}")


def _written(title: str, request: PromotionRequest, *more: str) -> bytes:
    plan = request.plan
    images = [f"image {service.name} {plan.release.images[service.name]}" for service in plan.release.services]
    lines = [
        title,
        f"request {request.number}",
        f"release {plan.release.id}",
        f"environment {plan.environment.name}",
        *images,
        f"plan {request.plan_hash}",
        f"expires {request.expires_at.astimezone(UTC):%Y-%m-%dT%H:%M:%SZ}",
        *more,
    ]
    return ("\n".join(lines) + "\n").encode()


def signed_words(request: PromotionRequest, signer_of: Callable[[bytes, str], str | None]) -> tuple[Approval, ...]:
    """The words that count where only signatures do: each rejection, and each approval whose signature is somebody's, under that person's
    name, whatever name was typed. `signer_of` tells whose signature of a message it is.
    """
    message = words_to_sign(request)
    counting = []
    for word in request.approvals:
        person = signer_of(message, word.signature) if word.signature and word.decision == "approve" else None
        if word.decision == "reject":
            counting.append(word)
        elif person is not None:
            counting.append(replace(word, person=person))
    return tuple(counting)


def broken_glass(request: PromotionRequest, signer_of: Callable[[bytes, str], str | None]) -> Approval | None:
    """The first word by which the glass was broken, under its signer's name; None when nobody who may has signed one, with a reason."""
    for word in request.approvals:
        if word.decision != "break-glass":
            continue
        try:
            person = signer_of(words_to_break_glass(request, word.reason), word.signature)
        except InvalidSettings:  # somebody else than this house wrote such a word down
            continue
        if person is not None:
            return replace(word, person=person)
    return None


def _same(person: str) -> str:
    return " ".join(person.casefold().split())
