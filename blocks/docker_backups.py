"""Dumps of an environment's database, and what one of them brings back, by PostgreSQL's own programs in a container beside it.

The dump flows through the engine's connection, so that nothing of it lies in the container, in the engine's logs or on a shared disk.
"""

import contextlib
import json
import logging
import re
import secrets
import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import timedelta
from urllib.parse import urlsplit

from blocks.docker_copies import PREFIX, database_of, left_behind, login_of
from blocks.docker_replicas import Replicas
from blocks.engine_facts import Blueprint
from delivery.backup import Noted
from delivery.durations import Size
from delivery.errors import DeliveryError, InvalidSettings
from delivery.release import Release

log = logging.getLogger("greenroom.backup")

_TIDYING = timedelta(minutes=2)
# Environments have lower-case names: no rehearsal of one takes such a copy for its own.
_OWNER = "RESTORED"
# One JSON array a line: ["rows", table, count] or ["revision", name]. What an extension brings is its own to bring back.
_NOTING = r"""
SELECT format('SELECT json_build_array(''rows'', %L, count(*)) FROM ONLY %s', c.oid::regclass, c.oid::regclass)
  FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace
  WHERE c.relkind = 'r' AND c.relpersistence <> 't' AND n.nspname NOT IN ('pg_catalog', 'information_schema')
    AND NOT EXISTS (SELECT FROM pg_depend d WHERE d.classid = 'pg_class'::regclass AND d.objid = c.oid AND d.deptype = 'e')
  ORDER BY 1 \gexec
SELECT format('SELECT json_build_array(''revision'', version_num) FROM %s', c.oid::regclass)
  FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace
  WHERE c.relkind = 'r' AND c.relname = 'alembic_version' AND n.nspname NOT LIKE 'pg\_%' \gexec
"""
# The counts and the dump are of one snapshot, or nobody could compare them: the application writes meanwhile.
_DUMP = rf"""
set -euo pipefail
psql --no-psqlrc --quiet --tuples-only --no-align --set=ON_ERROR_STOP=1 <<'SQL'
BEGIN ISOLATION LEVEL REPEATABLE READ READ ONLY;
SET LOCAL search_path = '';
SELECT pg_export_snapshot() AS snapshot \gset
\setenv SNAPSHOT :snapshot
\o /tmp/noted
{_NOTING}
\o
\! pg_dump --format=custom --snapshot="$SNAPSHOT" && touch /tmp/dumped
COMMIT;
SQL
test -e /tmp/dumped
cat /tmp/noted >&2
"""
_RESTORE = rf"""
set -euo pipefail
createdb --template=template0 "$COPY"
head --bytes="$BYTES" | pg_restore --dbname="$COPY" --exit-on-error --no-comments --no-publications --no-subscriptions
psql --no-psqlrc --quiet --tuples-only --no-align --set=ON_ERROR_STOP=1 --dbname="$COPY" >&2 <<'SQL'
SET search_path = '';
{_NOTING}
SQL
"""
_LIST = r"""
psql --no-psqlrc --tuples-only --no-align --command="SELECT datname FROM pg_database WHERE datname LIKE 'greenroom\_clone\_%'" >&2
"""
# Estimates are brought up to the table's present pages, as the planner does. What was never analyzed is counted where that is quick.
_SIZES = r"""
set -euo pipefail
psql --no-psqlrc --quiet --tuples-only --no-align --set=ON_ERROR_STOP=1 >&2 <<'SQL'
BEGIN READ ONLY;
SET LOCAL statement_timeout = '10s';
SET LOCAL lock_timeout = '100ms';
SELECT format(
    'SELECT json_build_array(''size'', %L, %s, %s)',
    CASE nspname WHEN 'public' THEN '' ELSE quote_ident(nspname) || '.' END || quote_ident(relname),
    CASE
      WHEN relpages > 0 AND reltuples >= 0
        THEN round(reltuples / relpages * pg_relation_size(c.oid) / current_setting('block_size')::int)::text
      WHEN pg_relation_size(c.oid) = 0 THEN '0'
      WHEN pg_relation_size(c.oid) <= 16777216 AND has_table_privilege(c.oid, 'SELECT')
        THEN format('(SELECT count(*) FROM ONLY %s)', c.oid::regclass)
      ELSE 'NULL::bigint'
    END,
    pg_table_size(c.oid))
  FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace
  WHERE relkind IN ('r', 'm') AND c.relpersistence <> 't' AND c.oid >= 16384 AND nspname !~ '^pg_'
  ORDER BY 1 \gexec
COMMIT;
SQL
"""
_DROP = 'dropdb --if-exists --force --maintenance-db=postgres "$COPY"'


@dataclass(frozen=True)
class Backups:
    """`image` as in `Copies`."""

    replicas: Replicas
    image: str

    def dump(self, release: Release, take: Callable[[bytes], object], *, variables: Mapping[str, str], timeout: timedelta) -> Noted:
        """Everything in the database, in pg_dump's custom format, piece by piece to `take`; what it held. What a killed backup has left
        running ends first: its locks would keep a migration waiting.
        """
        for found in self.replicas.engine.containers(self._labels("dump")):
            self.replicas.engine.remove(found.id)
        with self._beside(release, "dump", variables=variables, timeout=timeout) as container:
            code, said = self._bash(container, _DUMP, take=take)
        if code != 0:
            raise self._failed("be backed up", said, timeout)
        return noted_in(said)

    def restore(self, release: Release, pieces: Iterable[bytes], size: int, *, variables: Mapping[str, str], timeout: timedelta) -> Noted:
        """What a dump of `size` bytes brings back, in a database of its own that is gone afterwards."""
        whose = re.sub(r"\W", "_", self.replicas.environment)
        copy = f"{PREFIX}{int(time.time())}_{secrets.token_hex(3)}_{_OWNER}_{whose}"
        given = {"COPY": copy, "BYTES": str(size)}
        try:
            with self._beside(release, "restore", variables=variables, timeout=timeout) as container:
                code, said = self._bash(container, _RESTORE, given, pieces=pieces)
        finally:
            with contextlib.suppress(DeliveryError):  # housekeeping finds it
                self.drop(release, copy, variables=variables)
        if code != 0:
            raise self._failed("be restored from its backup", said, timeout)
        return noted_in(said)

    def left(self, release: Release, *, variables: Mapping[str, str]) -> tuple[str, ...]:
        """Copies of databases on this server that nobody can still be using."""
        with self._beside(release, "list", variables=variables, timeout=_TIDYING) as container:
            code, said = self._bash(container, _LIST)
        if code != 0:
            raise self._failed("be asked for copies that were left", said, _TIDYING)
        return left_behind(said, "", now=time.time())

    def drop(self, release: Release, copy: str, *, variables: Mapping[str, str]) -> None:
        """Idempotent."""
        if not copy.startswith(PREFIX):
            raise DeliveryError(f"{copy} is no copy and is not dropped.", next="nothing.")
        with self._beside(release, "drop", variables=variables, timeout=_TIDYING) as container:
            code, said = self._bash(container, _DROP, {"COPY": copy})
        if code != 0:
            raise self._failed(f"be rid of the copy {copy}", said, _TIDYING)

    def sizes(self, release: Release, *, variables: Mapping[str, str]) -> dict[str, Size]:
        """What PostgreSQL holds of each table, by its own statistics; read in a transaction that can write nothing."""
        code, said = self.ask(release, "sizes", _SIZES, variables=variables)
        if code != 0:
            raise self._failed("be asked how large its tables are", said, _TIDYING)
        told = [json.loads(line) for line in said if line.startswith("[")]
        return {str(one[1]): Size(None if one[2] is None else int(one[2]), int(one[3])) for one in told if one[0] == "size"}

    def ask(self, release: Release, what: str, script: str, *, variables: Mapping[str, str]) -> tuple[int, list[str]]:
        """What a script of the database's own client says, beside its exit code."""
        with self._beside(release, what, variables=variables, timeout=_TIDYING) as container:
            return self._bash(container, script)

    # ---- how

    def _labels(self, what: str) -> dict[str, str]:
        return {"backup": f"{what} {self.replicas.environment}"}

    @contextmanager
    def _beside(self, release: Release, what: str, *, variables: Mapping[str, str], timeout: timedelta) -> Iterator[str]:
        """A container that has the database's programs and login, and does nothing; with it ends, at the latest after `timeout`, what is
        run in it.
        """
        engine, settings = self.replicas.engine, release.migrations
        if settings is None:
            raise DeliveryError(f"{release.version.tag} carries no migrations, by which its database would be known.", next="nothing.")
        url = self.replicas.variables_of(release, release.service(settings.service), variables).get(database_of(release))
        if url is None or not urlsplit(url.get_secret_value()).scheme.startswith(("postgresql", "postgres")):
            raise InvalidSettings(
                f"The variable {database_of(release)} of service {settings.service} names no PostgreSQL database to back up.",
                next="correct `database` in [migrations] of greenroom.toml, or set before_migrations = false in [backup].",
            )
        blueprint = Blueprint(
            name=f"gr-{self.replicas.environment}-{what}-{secrets.token_hex(4)}",
            image=self.image,
            labels=self._labels(what),
            environment=login_of(url.get_secret_value()),
            network=self.replicas.network,
            memory_mb=max(256, self.replicas.memory_limit_mb),
            cpus=self.replicas.cpu_limit,
            stop_seconds=1,
            command=("sleep", f"{max(1.0, timeout.total_seconds()):.0f}"),
        )
        container = engine.create(blueprint)
        try:
            engine.start(container)
            yield container
        finally:
            with contextlib.suppress(DeliveryError):
                engine.remove(container)

    def _bash(
        self,
        container: str,
        script: str,
        variables: Mapping[str, str] | None = None,
        *,
        pieces: Iterable[bytes] = (),
        take: Callable[[bytes], object] = lambda _: None,
    ) -> tuple[int, list[str]]:
        code, said = self.replicas.engine.converse(container, ("bash", "-c", script), variables or {}, give=pieces, take=take)
        return code, [line for line in said.splitlines() if line.strip()]

    def _failed(self, doing: str, said: Sequence[str], timeout: timedelta) -> DeliveryError:
        reason = next(
            (line.strip() for line in reversed(said) if not line.startswith("[")), f"it did not end within {timeout.total_seconds():g} s"
        )
        return DeliveryError(
            f"{self.replicas.environment.capitalize()}'s database could not {doing}: {reason[:300]}",
            next="give the docker-target block a postgresql_image of the database's major version and its login the right to do it, or "
            "raise deadlines.backup_seconds.",
        )


def noted_in(lines: Iterable[str]) -> Noted:
    """What the scripts above have told; other lines are what the programs had to say."""
    told = [json.loads(line) for line in lines if line.startswith("[")]
    return Noted(
        revisions=tuple(sorted(str(one[1]) for one in told if one[0] == "revision")),
        rows={str(one[1]): int(one[2]) for one in told if one[0] == "rows"},
    )
