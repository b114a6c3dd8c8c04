"""A release: what is brought to users. Only this travels after `publish`."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime

from delivery.application import STRICT, Hook, LoadTest, MigrationSettings, Service, Smoke
from delivery.errors import InvalidSettings
from delivery.image import ImageRef
from delivery.revisions import MigrationReview
from delivery.source import Commit, Semver, Sha


def release_id(version: Semver, sha: Sha) -> str:
    """`v1.4.2-3f2a1bc9`: readable, and safe in container names, labels and file names."""
    return f"{version.tag}-{sha.short}"


@dataclass(frozen=True)
class Release:
    """Version, commit, digest-pinned images, and what the application says about running itself.

    `images` maps each service's name to its image. `review` is what was found in the migrations that some environment had still to
    apply when it was published. `evidence` maps a stage to where its report lies. `changes` are the commits that production had not
    seen when the release was made (`commits` are subjects, for people).
    """

    __pydantic_config__ = STRICT

    id: str
    application: str
    version: Semver
    sha: Sha
    author: str
    created_at: datetime
    services: tuple[Service, ...]
    images: Mapping[str, ImageRef]
    migrations: MigrationSettings | None = None
    review: MigrationReview | None = None
    smoke: tuple[Smoke, ...] = ()
    load: LoadTest | None = None
    hooks: tuple[Hook, ...] = ()
    commits: tuple[str, ...] = ()
    changes: tuple[Commit, ...] = ()
    evidence: Mapping[str, str] = field(default_factory=dict)

    def __post_init__(self) -> None:
        missing = [service.name for service in self.services if service.name not in self.images]
        if missing:
            raise InvalidSettings(
                f"Release {self.id} has no image for {', '.join(missing)}, expected one per service.",
                next="publish the release again.",
            )

    @property
    def reading_smoke(self) -> tuple[Smoke, ...]:
        """Those that may be sent where users' data are."""
        return tuple(request for request in self.smoke if not request.writes)

    def service(self, name: str) -> Service:
        for service in self.services:
            if service.name == name:
                return service
        raise InvalidSettings(
            f"Release {self.id} has no service {name!r}; it has {', '.join(s.name for s in self.services)}.",
            next="correct the name in greenroom.toml.",
        )
