"""From local images to a Release: pushed once, known by digest from then on."""

import logging
from collections.abc import Mapping
from functools import partial

from delivery.application import Application
from delivery.errors import InvalidSettings
from delivery.image import ImageRef, tags_at_publish, tags_on_staging
from delivery.ports import Registry
from delivery.release import Release, release_id
from delivery.revisions import MigrationReview
from delivery.source import Semver, Source
from tasks.retry import NETWORK, retried
from tasks.side_by_side import first_failure, side_by_side

log = logging.getLogger("greenroom.publish")

# Uploads share one line to the registry; more at once only lengthens each.
UPLOADS_AT_ONCE = 3


def publish(
    images: Mapping[str, str],
    source: Source,
    application: Application,
    version: Semver,
    registry: Registry,
    *,
    review: MigrationReview | None = None,
    evidence: Mapping[str, str] | None = None,
) -> Release:
    """Pushes every service's image with the names of its version and returns the release.

    `images` maps services to local images, `evidence` stages to where their reports lie. May be repeated. Saving the release is the
    caller's act. Raises `TransientError` once the registry stayed silent through all tries, else `DeliveryError`.
    """
    missing = [service.name for service in application.service if service.name not in images]
    if missing:
        raise InvalidSettings(f"There is no image of {', '.join(missing)}.", next="build the release again.")
    tags = tags_at_publish(version, source.sha, on_main=source.on_main)
    acts = [
        partial(push_image, service.name, images[service.name], f"{application.name}-{service.name}", tags, registry)
        for service in application.service
    ]
    pushed = first_failure(side_by_side(acts, at_once=UPLOADS_AT_ONCE))
    release = Release(
        id=release_id(version, source.sha),
        application=application.name,
        version=version,
        sha=source.sha,
        author=source.author,
        created_at=source.committed_at,
        services=application.service,
        images={service.name: image for service, image in zip(application.service, pushed, strict=True)},
        migrations=application.migrations,
        review=review,
        smoke=application.smoke,
        load=application.load,
        hooks=application.hook,
        commits=source.commits,
        changes=source.changes,
        evidence=dict(evidence or {}),
    )
    log.info("published %s: %s", release.id, ", ".join(f"{name} {image.digest[:19]}" for name, image in release.images.items()))
    return release


@retried(NETWORK, name="push", run_name="push {service}")
def push_image(service: str, local: str, repository: str, tags: tuple[str, ...], registry: Registry) -> ImageRef:
    """Pushes the image of one service under all its tags and returns it pinned to its digest."""
    del service  # it names the task run
    return registry.push(local, repository=repository, tags=tags)


@retried(NETWORK, name="name staging", run_name="tag {release.id} as staging")
def tag_staging(release: Release, registry: Registry) -> None:
    """Gives every image of a release the names that tell what staging runs."""
    for image in release.images.values():
        registry.tag(image, tags_on_staging(release.version))
