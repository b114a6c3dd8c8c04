"""A release: what is brought to users. Only this travels after `publish`."""

import re
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from datetime import datetime

from delivery.application import STRICT, Hook, LoadTest, MigrationSettings, Service, Smoke
from delivery.errors import InvalidSettings
from delivery.image import ImageRef
from delivery.revisions import MigrationReview
from delivery.source import Commit, Semver, Sha


def release_id(version: Semver, sha: Sha) -> str:
    """`v1.4.2-3f2a1bc9`: readable, and safe in container names, labels and file names."""
    return f"{version.tag}-{sha.short}"


# No commit id has an r, so that a release's own id never ends like this.
_SETTINGS = re.compile(r"-r[1-9][0-9]*$")


def build_of(release_id: str) -> str:
    """The release as it was published: `v1.4.2-3f2a1bc9` of `v1.4.2-3f2a1bc9-r2`, which is the same images under other settings."""
    return _SETTINGS.sub("", release_id)


@dataclass(frozen=True)
class Release:
    """Version, commit, digest-pinned images, and what the application says about running itself.

    `images` maps each service's name to its image. `review` is what was found in the migrations that some environment had still to
    apply when it was published. `evidence` maps a stage to where its report lies. `changes` are the commits that production had not
    seen when the release was made (`commits` are subjects, for people). `secrets` are the versions of secrets that it runs with where it
    was brought to, by the name of the variable; one that is not named is the environment's oldest.
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
    secrets: Mapping[str, int] = field(default_factory=dict)

    def __post_init__(self) -> None:
        missing = [service.name for service in self.services if service.name not in self.images]
        if missing:
            raise InvalidSettings(
                f"Release {self.id} has no image for {', '.join(missing)}, expected one per service.",
                next="publish the release again.",
            )

    @property
    def build(self) -> str:
        """What was published, proven and signed, whichever settings it runs with."""
        return build_of(self.id)

    def with_settings(self, number: int) -> "Release":
        """The same images under other settings, as a release of its own, so that both can serve side by side."""
        return replace(self, id=f"{self.build}-r{number}")

    def with_secret(self, name: str, version: int) -> "Release":
        """The same release with one secret in another version."""
        return replace(self, secrets={**self.secrets, name: version})

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
