"""Images: names are for people, digests rule."""

import re
from dataclasses import dataclass

from delivery.errors import InvalidSettings
from delivery.source import Semver, Sha

_DIGEST = re.compile(r"sha256:[0-9a-f]{64}")
_REFERENCE = re.compile(
    r"(?P<registry>[a-z0-9.-]+(?::\d{1,5})?)/(?P<repository>[a-z0-9]+(?:[._/-]+[a-z0-9]+)*)@(?P<digest>sha256:[0-9a-f]{64})"
)


@dataclass(frozen=True)
class ImageRef:
    """An image pinned to its content: registry, repository and digest. It has no tag, since a tag may move."""

    __pydantic_config__ = {"extra": "forbid"}  # noqa: RUF012

    registry: str
    repository: str
    digest: str

    def __post_init__(self) -> None:
        if not _REFERENCE.fullmatch(str(self)):
            raise InvalidSettings(
                f"Not a pinned image: got {str(self)[:200]!r}, expected registry/repository@sha256:<64 hex digits>.",
                next="resolve the tag to its digest first (publish does).",
            )

    @classmethod
    def parse(cls, text: str) -> "ImageRef":
        found = _REFERENCE.fullmatch(text)
        if not found:
            raise InvalidSettings(
                f"Not a pinned image: got {text[:200]!r}, expected registry/repository@sha256:<64 hex digits>.",
                next="resolve the tag to its digest first (publish does).",
            )
        return cls(found["registry"], found["repository"], found["digest"])

    def __str__(self) -> str:
        return f"{self.registry}/{self.repository}@{self.digest}"


def is_digest(text: str) -> bool:
    return bool(_DIGEST.fullmatch(text))


def tags_at_publish(version: Semver, sha: Sha, *, on_main: bool) -> tuple[str, ...]:
    """The names an image gets when it is pushed (R8): `v1.2.3`, `v1.2.3-<sha>`, and `latest` for the main branch."""
    names = (version.tag, f"{version.tag}-{sha.short}")
    return (*names, "latest") if on_main else names


def tags_on_staging(version: Semver) -> tuple[str, ...]:
    """The names an image gets once staging runs it (R8)."""
    return ("staging-latest", f"staging-{version.tag}")


@dataclass(frozen=True)
class ImageConfiguration:
    """How an image says that it is to be run. `user` is as it stands there, "" where nothing does; `megabytes` (10^6) are what it takes in
    the registry, compressed.
    """

    user: str
    megabytes: float
