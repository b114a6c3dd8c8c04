"""The journal's releases: saved once, never changed."""

import json
from collections.abc import Sequence
from dataclasses import replace

from sqlalchemy import ColumnElement, Connection, RowMapping, insert, or_, select

from blocks.database import Database
from blocks.documents import canonical, from_document
from blocks.journal_rows import one
from blocks.journal_tables import releases
from delivery.errors import InvalidSettings
from delivery.release import Release
from delivery.source import Semver, Sha


class Releases:
    """The part of `SqlJournal` that keeps releases."""

    _database: Database

    def save_release(self, release: Release) -> None:
        """Idempotent. Refuses another commit under a version that is already released, and other images under the same release."""
        self._database.write(lambda connection: save(self._database, connection, release))

    def release(self, release_id: str) -> Release:
        return self._release(releases.c.id == release_id, asked=release_id)

    def release_of(self, version: Semver) -> Release:
        return self._release(releases.c.version == str(version), asked=version.tag)

    def _release(self, condition: ColumnElement[bool], *, asked: str) -> Release:
        def look(connection: Connection) -> Release:
            if found := one(connection, select(releases).where(condition)):
                return release_in(found)
            newest = connection.execute(select(releases.c.id).order_by(releases.c.saved_at.desc()).limit(5)).scalars().all()
            raise InvalidSettings(
                f"Unknown release: got {asked[:80]!r}, expected one that was published: {', '.join(newest) or 'there is none yet'}.",
                next="correct it, or publish it first: `greenroom release <commit>`.",
            )

        return self._database.read(look)

    def releases(self) -> Sequence[Release]:
        newest_first = select(releases).order_by(releases.c.saved_at.desc(), releases.c.id.desc())
        return [release_in(row) for row in self._database.read(lambda connection: connection.execute(newest_first).mappings().all())]

    def release_of_commit(self, sha: Sha, version: Semver) -> Release | None:
        condition = (releases.c.sha == str(sha)) & (releases.c.version == str(version))
        found = self._database.read(lambda connection: one(connection, select(releases).where(condition)))
        return release_in(found) if found else None


def save(database: Database, connection: Connection, release: Release) -> None:
    version = f"{release.version}{release.id.removeprefix(release.build)}"  # the same images under other settings are the same version
    same = or_(releases.c.id == release.id, releases.c.version == version)
    if found := one(connection, select(releases).where(same)):
        _require_same(release_in(found), release)
        return
    connection.execute(
        insert(releases).values(
            id=release.id,
            version=version,
            sha=str(release.sha),
            document=canonical(replace(release, secrets={})),  # which versions of secrets it runs with is the environment's
            saved_at=database.now(connection),
        )
    )


def release_in(row: RowMapping) -> Release:
    return from_document(Release, json.loads(row["document"]))


def _require_same(saved: Release, release: Release) -> None:
    if saved.sha != release.sha or saved.id != release.id:
        raise InvalidSettings(
            f"Version {release.version.tag} is already released from commit {saved.sha.short}, got commit {release.sha.short}.",
            next="give the new commit a new version.",
        )
    if dict(saved.images) != dict(release.images):
        raise InvalidSettings(
            f"Release {release.id} is already published with other images.",
            next="go on with the published one (`release_of_commit`), or give a new version.",
        )
