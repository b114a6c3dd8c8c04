"""The migrations of images that were just built: read in the image itself and judged, before anything is published."""

import logging
import time
import uuid
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import requests

from delivery.application import Application, MigrationSettings, Service
from delivery.contraction import CONTRACTING
from delivery.errors import DeliveryError, InvalidSettings
from delivery.migrations import judge
from delivery.old_version import OldVersion
from delivery.operations import Operation
from delivery.revisions import Chain, MigrationReview, ReviewedRevision, RevisionFile
from delivery.schema import Schema
from delivery.source import Source
from delivery.sql import statements
from delivery.undoing import Undoing, read_undoing
from tasks.endtoend import BORN, LABEL, as_replica, open_engine
from tasks.image_alembic import answer_in, no_answer, read_command
from tasks.retry import QUICK, retried
from tasks.squawk import read_with_squawk

log = logging.getLogger("greenroom.review")

LONGEST_READING_SECONDS = 300
# Of what is kept with a release: enough to read it at the gate.
LONGEST_KEPT_SQL = 8_000
MOST_KEPT_OPERATIONS = 100


@dataclass(frozen=True)
class Applied:
    """How one environment's database stands, as its rollouts have written it: the revisions it is at, and the hashes of the files that
    were applied there.
    """

    revisions: tuple[str, ...]
    hashes: Mapping[str, str]


@retried(QUICK, name="read migrations", run_name="read migrations")
def review_migrations(
    images: Mapping[str, str], source: Source, application: Application, *, environments: Mapping[str, Applied], strict: bool
) -> MigrationReview | None:
    """What is pending in any of `environments`, read and judged; None for an application without migrations. Without `strict` an
    environment whose database has revisions that this commit lacks is left out: a branch need not have everything.

    Raises `InvalidSettings` for what could never be applied: several heads, no alembic.ini, a driver that Alembic cannot use, a recorded
    revision that the image does not know, a revision whose file is another one than that which was applied.
    """
    settings = application.migrations
    if settings is None:
        return None
    service = next(service for service in application.service if service.name == settings.service)
    variables = application.e2e.settings if application.e2e else {}
    chain = read_chain(images[service.name], service, settings, variables, labels={LABEL: str(source.sha)})
    if not strict:
        environments = {name: applied for name, applied in environments.items() if not chain.strange(applied.revisions)}
    refuse_what_cannot_be(chain, environments)
    wanted = {one.id for applied in environments.values() if applied.revisions for one in chain.pending(applied.revisions)}
    return MigrationReview(chain.heads, judged(chain, wanted))


def read_chain(
    image: str, service: Service, settings: MigrationSettings, variables: Mapping[str, str], *, labels: Mapping[str, str]
) -> Chain:
    """In a container of the image that has no network and is removed afterwards."""
    with open_engine() as engine:
        container = engine.containers.create(
            image,
            list(read_command(settings)),
            name=f"greenroom-reads-{uuid.uuid4().hex[:12]}",
            labels={**labels, BORN: str(int(time.time()))},
            network_mode="none",
            mem_limit="512m",
            **as_replica(service, variables),
        )
        try:
            container.start()
            try:
                container.wait(timeout=LONGEST_READING_SECONDS)
            except requests.RequestException:
                raise DeliveryError(
                    f"Reading the migrations in the image took more than {LONGEST_READING_SECONDS} s.", next="look what env.py does."
                ) from None
            output = container.logs().decode("utf-8", errors="replace").splitlines()
        finally:
            container.remove(force=True, v=True)
    return chain_in(output)


def chain_in(output: Sequence[str]) -> Chain:
    """The revisions that the image told. Raises `InvalidSettings` for what it refused."""
    answer = answer_in(output)
    if answer is None:
        raise no_answer(output, doing="Reading the migrations in the image")
    if answer.refusal:
        raise InvalidSettings(f"The migrations cannot be released: {answer.refusal}.", next=f"{answer.way_out}.")
    return Chain(answer.names("heads"), tuple(_revision(one) for one in answer.told.get("revisions", ())))


def refuse_what_cannot_be(chain: Chain, environments: Mapping[str, Applied]) -> None:
    """Raises `InvalidSettings` naming the first environment whose database does not fit the chain, and the way out."""
    for name, applied in environments.items():
        if strange := chain.strange(applied.revisions):
            raise InvalidSettings(
                f"{name.capitalize()}'s database is at revision {' and '.join(strange)}, and this commit does not carry it.",
                next="merge the commit that added it, or restore its file: what is applied is not taken back by leaving it out.",
            )
        if edited := chain.edited(applied.hashes):
            raise InvalidSettings(
                f"Revision {' and '.join(edited)} was edited after it had been applied to {name}: the database would never see the change.",
                next="restore the file as it was (git log shows it), and write the change as a new revision.",
            )


def judged(chain: Chain, wanted: set[str]) -> tuple[ReviewedRevision, ...]:
    """The wanted revisions with what rules and squawk found, each against the schema that the revisions before it make."""
    schema = Schema.read("")
    found = []
    for one in chain.revisions:
        if one.id in wanted:
            report = read_with_squawk(one.sql) if one.sql else ()
            undoing = _undoing(one, schema)
            verdict = judge(one.sql, schema=schema, old_version=OldVersion.read(None), squawk=report)
            operations = tuple(replace(o, reason=f"{o.reason} ({one.problem})") if one.sql is None else o for o in verdict.operations)
            kept = one.sql if one.sql is None or len(one.sql) <= LONGEST_KEPT_SQL else one.sql[:LONGEST_KEPT_SQL] + "\n-- …"
            found.append(ReviewedRevision(one.id, one.down, one.sha256, one.title, kept, _kept(operations), undoing))
            log.info("revision %s: %s", one.id, verdict.sentence())
        elif one.sql is not None:
            for statement in statements(one.sql):
                schema.apply(statement)
        # What Python makes is not seen: from here on nothing may be concluded from what is missing.
        schema.known = schema.known and one.sql is not None
    return tuple(found)


def _undoing(one: RevisionFile, schema: Schema) -> Undoing | None:
    """Its way back, from the schema before it; None where it does not say that it has one."""
    if not one.reversible:
        return None
    return read_undoing(one.sql, one.back, schema=schema, squawk=read_with_squawk(one.back) if one.back else ())


def _kept(operations: Sequence[Operation]) -> tuple[Operation, ...]:
    """Every objection, and all that contracts; of the rest what tells something, as far as there is room."""
    stops = [one for one in operations if one.stops or one.rule in CONTRACTING]
    others = [one for one in operations if one not in stops and one.rule not in ("transaction", "reads")]
    room = max(0, MOST_KEPT_OPERATIONS - len(stops))
    return tuple(sorted([*stops, *others[:room]], key=lambda one: one.statement))


def _revision(told: Mapping[str, Any]) -> RevisionFile:
    sql = told.get("sql")
    return RevisionFile(
        id=str(told["id"]),
        down=tuple(str(name) for name in told["down"]),
        sha256=str(told["sha256"]),
        title=str(told.get("title") or ""),
        sql=str(sql) if sql is not None else None,
        problem=str(told.get("problem") or ""),
        reversible=bool(told.get("reversible")),
        back=str(told["back"]) if told.get("back") is not None else None,
    )
