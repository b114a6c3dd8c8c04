"""From a release to signed words about it: where each image comes from, and what became of it."""

import logging
from collections.abc import Mapping
from dataclasses import replace

import docker
from docker.errors import DockerException

from delivery.dsse import IN_TOTO, NotProven, Signer, read_envelope
from delivery.image import ImageRef
from delivery.links import Link, fingerprint_of, link_in
from delivery.ports import JournalStore, Registry
from delivery.provenance import Build, Material, provenance_of
from delivery.release import Release
from delivery.source import Source
from delivery.statement import Statement, statement_in
from tasks.retry import NETWORK, retried

log = logging.getLogger("greenroom.sign")


def sign_provenance(release: Release, source: Source, build: Build, signer: Signer, registry: Registry) -> tuple[bytes, ...]:
    """Signs the provenance of every image, puts it beside the image, and returns the envelopes for the journal. May be repeated."""
    statements = [
        (release.images[service.name], provenance_of(release.images[service.name], service, release.version, source, build))
        for service in release.services
    ]
    return tuple(sign_and_attach(statement, image, signer, registry) for image, statement in statements)


@retried(NETWORK, name="sign", run_name="sign {statement.predicate_type}")
def sign_and_attach(statement: Statement, image: ImageRef, signer: Signer, registry: Registry) -> bytes:
    envelope = signer.sign(IN_TOTO, statement.written()).written()
    registry.attach(image, envelope, predicate_type=statement.predicate_type)
    log.info("signed %s of %s", statement.predicate_type, image)
    return envelope


def sign_link(link: Link, release: Release, signer: Signer, store: JournalStore) -> None:
    """Puts a link at the end of the release's chain in the journal. Signed again with the same facts, it is not there twice."""
    kept = store.envelopes(release.build)
    if any(_says_the_same(data, link) for data in kept):
        return
    after = fingerprint_of(kept[-1]) if kept else ""
    store.keep_envelope(release.build, signer.sign(IN_TOTO, replace(link, after=after).of(release).written()).written())


def _says_the_same(data: bytes, link: Link) -> bool:
    try:
        return replace(link_in(statement_in(read_envelope(data))), after=link.after) == link
    except NotProven:
        return False


def base_materials(bases: Mapping[str, str], base_images: Mapping[str, str]) -> tuple[Material, ...]:
    """The base images of a build as this machine's engine has them now. One that it does not know by name is listed without a digest."""
    if not bases:
        return ()
    try:
        engine = docker.from_env(timeout=30)
    except DockerException:
        return tuple(Material(f"docker:{upstream}", {}) for upstream in _once(bases))
    try:
        return tuple(Material(f"docker:{upstream}", _digest(engine, base_images.get(upstream, upstream))) for upstream in _once(bases))
    finally:
        engine.close()


def _once(bases: Mapping[str, str]) -> tuple[str, ...]:
    return tuple(dict.fromkeys(bases.values()))


def _digest(engine: docker.DockerClient, image: str) -> Mapping[str, str]:
    """The digest in its registry; of an image that was made here and pushed nowhere, the engine's id, its configuration's digest."""
    try:
        found = engine.images.get(image)
    except DockerException:
        return {}
    pushed = [str(one).partition("@")[2] for one in found.attrs.get("RepoDigests") or ()]
    return {"sha256": (pushed[0] if pushed else str(found.id)).removeprefix("sha256:")}
