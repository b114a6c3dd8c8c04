"""Keys, small images in a real registry, and signed words about them."""

import secrets
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from pathlib import Path

from bench.images import Shelf
from blocks.registry import OciRegistry
from blocks.signing import SigningKey, make_key_pair
from delivery.dsse import IN_TOTO
from delivery.image import ImageRef
from delivery.provenance import Build, Material, provenance_of
from delivery.release import Release
from delivery.source import Source
from delivery.statement import Statement

AT = datetime(2026, 7, 1, 10, tzinfo=UTC)
BUILD = Build(
    builder="urn:greenroom:builder",
    invocation="urn:uuid:7",
    started=AT,
    finished=AT,
    main_branch="main",
    bases=(Material("docker:python:3.11-slim", {"sha256": "b" * 64}),),
)
REPOSITORY = "https://example.org/shop.git"


def a_source(release: Release, repository: str = REPOSITORY, *, on_main: bool = True) -> Source:
    return Source(repository, release.sha, "/nowhere", "Ann", AT, on_main=on_main, last_tag=None, commits_since_tag=1)


def provenance(release: Release, service: str = "api", *, source: Source | None = None, build: Build = BUILD) -> Statement:
    return provenance_of(release.images[service], release.service(service), release.version, source or a_source(release), build)


@dataclass(frozen=True)
class Keyring:
    """`release.pub` in `folder` is the public half of `mine`; `stranger` is nobody's."""

    folder: Path
    mine: SigningKey
    stranger: SigningKey

    @classmethod
    def made_in(cls, folder: Path) -> "Keyring":
        make_key_pair(folder / "signing.key", folder / "keys" / "release.pub")
        make_key_pair(folder / "stranger.key", folder / "stranger.pub")
        return cls(folder / "keys", SigningKey(file=folder / "signing.key"), SigningKey(file=folder / "stranger.key"))

    def signed(self, statement: Statement) -> bytes:
        return self.mine.sign(IN_TOTO, statement.written()).written()

    def signed_by_stranger(self, statement: Statement) -> bytes:
        return self.stranger.sign(IN_TOTO, statement.written()).written()


def put_image(registry: str, repository: str, tag: str = "v1") -> ImageRef:
    """An image of one small layer, like no other."""
    image = Shelf(registry, repository).image(secrets.token_hex(32), tag)
    return ImageRef(registry, repository, str(image["digest"]))


def with_images(release: Release, registry: str) -> Release:
    """The release with images of its own in the registry."""
    return replace(release, images={name: put_image(registry, f"shop-{name}", release.version.tag) for name in release.images})


def sign_images(release: Release, keyring: Keyring, block: OciRegistry) -> tuple[bytes, ...]:
    """Every image of the release is signed as its pipeline would do it, beside the image."""
    envelopes = []
    for name, image in release.images.items():
        statement = provenance(release, name)
        envelopes.append(keyring.signed(statement))
        block.attach(image, envelopes[-1], predicate_type=statement.predicate_type)
    return tuple(envelopes)
