"""`greenroom audit verify`: every chain of the journal anew, and each act that they prove."""

import json
from collections.abc import Sequence
from dataclasses import dataclass

from blocks.documents import to_document
from blocks.settings import environment_names, load_environment, settings
from cli.journal import open_journal
from delivery.audit import Act, acts_of, heads, missing_among, require_head
from delivery.errors import DeliveryError
from delivery.ports import JournalStore

# More rollouts than an environment will see; all of them are looked at.
ALL = 10_000_000


@dataclass(frozen=True)
class Audit:
    """`broken` are sentences; `head` covers every rollout that has ended, "" when there is none or a chain is broken."""

    environment: str
    rollouts: int
    head: str
    broken: tuple[str, ...]
    acts: tuple[Act, ...]


def show_audit(environment: str | None, *, noted: str | None, as_json: bool, quiet: bool) -> bool:
    """True when every chain is whole. Raises `InvalidSettings` when the journal does not have the head `noted`."""
    current = settings()
    if environment is not None:
        load_environment(environment, current.environments_dir)
    with open_journal(current) as store:
        names = [environment] if environment else _environments_in(store, environment_names(current.environments_dir))
        audits = []
        known: list[str] = []
        for name in names:
            audit, its_heads = examine(store, name)
            audits.append(audit)
            known += its_heads
    if as_json:
        print(json.dumps([to_document(audit) for audit in audits], ensure_ascii=False))
    else:
        for audit in audits:
            _show(audit, quiet=quiet)
    whole = not any(audit.broken for audit in audits)
    if noted and whole:
        require_head(noted, known)
    return whole


def examine(store: JournalStore, environment: str) -> tuple[Audit, Sequence[str]]:
    """The environment's audit, and the head after each rollout that has ended."""
    records = sorted(store.rollouts(environment=environment, limit=ALL), key=lambda record: _number(record.id))
    broken = [f"Rollout {gone} is missing." for gone in missing_among(environment, (_number(record.id) for record in records))]
    acts: list[Act] = []
    last: list[str] = []
    for record in records:
        try:
            store.verify_chain(record.id)
        except DeliveryError as changed:
            broken.append(changed.what)
            continue
        entries = store.entries(record.id)
        acts += acts_of(record.id, entries)
        if record.ended_at is not None:
            last.append(entries[-1].hash)
    found = [] if broken else heads(environment, last)
    acts += _said(store, environment)
    in_order = tuple(sorted(acts, key=lambda act: act.at))  # a stable order: entries of one moment stay as they were written
    return Audit(environment, len(records), found[-1] if found else "", tuple(broken), in_order), found


def _said(store: JournalStore, environment: str) -> Sequence[Act]:
    """What people said to requests. It is not chained: where it must not be forged, `greenroom evidence` verifies their signatures."""
    return [
        Act(word.at, f"request {request.number}", f"{word.decision} by {word.person} through {word.channel}: {word.reason}")
        for request in store.requests(environment=environment)
        for word in request.approvals
    ]


def _environments_in(store: JournalStore, with_files: Sequence[str]) -> Sequence[str]:
    """Also one whose file is gone: what was done there stays to be answered for."""
    return sorted({*with_files, *(record.environment for record in store.rollouts(limit=ALL))})


def _number(rollout: str) -> int:
    return int(rollout.rpartition("-")[2])


def _show(audit: Audit, *, quiet: bool) -> None:
    verdict = "THE JOURNAL WAS CHANGED" if audit.broken else "every chain is whole"
    print(f"{audit.environment}: {audit.rollouts} rollouts, {verdict}")
    for sentence in audit.broken:
        print(f"  BROKEN  {sentence}")
    if not quiet:
        for act in audit.acts:
            print(f"  {act.at:%Y-%m-%d %H:%M:%S}  {act.rollout:<16}  {act.what}")
    if audit.head:
        print(f"  head  {audit.head}")
