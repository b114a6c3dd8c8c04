"""What a migration takes away on a copy of the database, and whether those who serve use it: in their code and in what they write."""

import json
import logging
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import timedelta

from delivery.contraction import Contraction, Proof, Seen, Thing, contractions, gone, judge
from delivery.errors import DeliveryError, StaleFence
from delivery.own_code import CodeSearch, is_own, own_packages, tells_where_it_came_from
from delivery.ports import Copying
from delivery.release import Release
from delivery.revisions import ReviewedRevision
from tasks.scene import Scene

log = logging.getLogger("greenroom.contracting")

LONGEST_QUESTION = timedelta(minutes=2)
_THINGS = r"""
SELECT coalesce(jsonb_agg(jsonb_build_array(kind, regexp_replace(owner, '^public[.]', ''), regexp_replace(name, '^public[.]', ''))), '[]')
FROM (
  SELECT 'relation' AS kind, '' AS owner, n.nspname || '.' || c.relname AS name, n.nspname
    FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace WHERE c.relkind IN ('r', 'p', 'v', 'm', 'f', 'S')
  UNION ALL SELECT 'column', n.nspname || '.' || c.relname, a.attname, n.nspname
    FROM pg_attribute a JOIN pg_class c ON c.oid = a.attrelid JOIN pg_namespace n ON n.oid = c.relnamespace
    WHERE c.relkind IN ('r', 'p', 'v', 'm', 'f') AND a.attnum > 0 AND NOT a.attisdropped
  UNION ALL SELECT DISTINCT 'function', '', n.nspname || '.' || p.proname, n.nspname
    FROM pg_proc p JOIN pg_namespace n ON n.oid = p.pronamespace
  UNION ALL SELECT 'type', '', n.nspname || '.' || t.typname, n.nspname
    FROM pg_type t JOIN pg_namespace n ON n.oid = t.typnamespace WHERE t.typtype IN ('e', 'd', 'r')
  UNION ALL SELECT 'value', n.nspname || '.' || t.typname, e.enumlabel, n.nspname
    FROM pg_enum e JOIN pg_type t ON t.oid = e.enumtypid JOIN pg_namespace n ON n.oid = t.typnamespace
) found WHERE nspname !~ '^(pg_|information_schema$)'
"""
# PostgreSQL does not know what a body that is kept as text names.
_BODIES = """
SELECT coalesce(jsonb_object_agg(p.oid::regprocedure::text, p.prosrc), '{}')
FROM pg_proc p JOIN pg_namespace n ON n.oid = p.pronamespace JOIN pg_language l ON l.oid = p.prolang
WHERE n.nspname !~ '^(pg_|information_schema$)' AND l.lanname NOT IN ('c', 'internal')
  AND NOT EXISTS (SELECT FROM pg_depend d WHERE d.objid = p.oid AND d.classid = 'pg_proc'::regclass AND d.deptype = 'e')
"""


@dataclass
class Contracting:
    """One rehearsal's look at what goes. `pending` are the revisions that the copy is brought through; `go_on` raises when it must end."""

    scene: Scene
    target: Copying
    copy: str
    pending: Sequence[ReviewedRevision]
    go_on: Callable[[], None]
    found: tuple[Contraction, ...] = ()
    _there: frozenset[Thing] = frozenset()
    _bodies: Mapping[str, str] = field(default_factory=dict)
    _written: dict[str, dict[str, int]] = field(default_factory=dict)

    def before(self) -> None:
        """Before the upgrade of the copy."""
        self._there = self._things()

    def after(self) -> None:
        """After it, before anybody has written there again."""
        told = [one for revision in self.pending for one in contractions(revision)]
        self.found = (*told, *gone(self._there, self._things(), self.pending))
        if self.found:
            self._bodies = json.loads(self._ask(_BODIES))

    def writes_of(self, release: Release, act: Callable[[], None]) -> None:
        """Does `act`, in which the release answers its smoke requests, and counts what was written to the tables that are tightened."""
        tables = sorted({one.table for one in self.found if one.needs_a_write and one.table})
        if not tables:
            act()
            return
        began = int(self._ask("SELECT txid_current() % 4294967296"))
        act()
        self._written[release.id] = {table: self._new_rows(table, began) for table in tables}

    def proofs(self, serving: Iterable[Release]) -> tuple[Proof, ...]:
        """For each release that serves and each thing that goes."""
        if not self.found:
            return ()
        names = tuple(dict.fromkeys(name for one in self.found for name in one.names))
        functions = CodeSearch(names)
        for name, body in self._bodies.items():
            functions.look(f"the function {name}", body.encode())
        seen = [Seen(release, self._code(release, names), functions, self._written.get(release.id, {})) for release in serving]
        return tuple(judge(one, each) for each in seen for one in self.found)

    # ---- how

    def _code(self, release: Release, names: tuple[str, ...]) -> dict[str, CodeSearch]:
        """By service; services with the same image are looked at once."""
        by_image: dict[str, CodeSearch] = {}
        found: dict[str, CodeSearch] = {}
        for service in release.services:
            self.go_on()
            self.scene.tell(f"looking for {', '.join(names)} in the code of {service.name} of {release.version.tag}")
            image = str(release.images[service.name])
            if image not in by_image:
                by_image[image] = self._search(release, service.name, names)
            found[service.name] = by_image[image]
        return found

    def _search(self, release: Release, service: str, names: tuple[str, ...]) -> CodeSearch:
        search, notes = CodeSearch(names), dict[str, bytes]()
        try:
            for path, content in self._files(release, service, lambda path, home: tells_where_it_came_from(path) or is_own(path, home)):
                if tells_where_it_came_from(path):
                    notes[path] = content or b""
                else:
                    search.look(f"{service}:/{path}", content)
            if packages := own_packages(notes):
                for path, content in self._files(release, service, lambda path, _: path in packages):
                    search.look_at_package(f"{service}:/{path}", content)
        except StaleFence:
            raise
        except DeliveryError as broken:
            log.warning("The image of %s of %s could not be read: %s", service, release.id, broken)
            search.unreadable.append(f"its image of {service}")
        return search

    def _files(self, release: Release, service: str, wanted: Callable[[str, str], bool]) -> Iterable[tuple[str, bytes | None]]:
        for found in self.target.files_of(release, service, wanted, token=self.scene.token):
            self.go_on()
            yield found

    def _things(self) -> frozenset[Thing]:
        return frozenset(Thing(*map(str, one)) for one in json.loads(self._ask(_THINGS)))

    def _new_rows(self, table: str, began: int) -> int:
        """Rows that are there and were written by later transactions than `began`; 0 where that cannot be told."""
        name = ".".join('"' + part.replace('"', '""') + '"' for part in table.split("."))
        try:
            return int(self._ask(f"SELECT count(*) FROM {name} WHERE age(xmin) < age('{began}'::xid)"))  # noqa: S608  the name is quoted
        except StaleFence:
            raise
        except (DeliveryError, ValueError) as broken:
            log.warning("What was written to %s on the copy cannot be told: %s", table, broken)
            return 0

    def _ask(self, question: str) -> str:
        plan = self.scene.plan
        return self.target.ask_copy(
            plan.release,
            " ".join(question.split()),
            copy=self.copy,
            variables=plan.environment.variables,
            timeout=LONGEST_QUESTION,
            token=self.scene.token,
        )
