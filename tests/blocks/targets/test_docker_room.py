"""Room for a release: measured, made from this application's unneeded images only, refused with sizes when it is still too little."""

import time
from dataclasses import replace
from pathlib import Path

import pytest

from bench.stand import Stand, token, web
from blocks import docker_room
from blocks.docker_room import ALLOWANCE, GIB, Room
from blocks.engine import Engine
from delivery.errors import DeliveryError
from delivery.image import ImageRef
from tests.blocks.targets.place import Place, bring_back, is_here, remove_image, until

pytestmark = pytest.mark.docker


@pytest.fixture
def engine() -> Engine:
    return Engine(None, str)


def made_in_turn(stand: Stand, *versions: str) -> dict[str, ImageRef]:
    """Images whose times of making differ: the engine tells them in seconds."""
    images = {}
    for version in versions:
        before = int(time.time())
        until(lambda before=before: int(time.time()) > before)  # type: ignore[misc]  # the same each time
        images[version] = stand.image(version)
    bring_back(stand)
    return images


@pytest.fixture
def full(stand: Stand) -> dict[str, ImageRef]:
    """Images of one application, the oldest first."""
    return made_in_turn(stand, "7.0.0", "7.1.0", "7.2.0", "7.3.0", "7.4.0", "7.5.0")


def test_only_unneeded_images_of_this_application_go_and_the_oldest_first(
    place: Place, engine: Engine, full: dict[str, ImageRef], monkeypatch: pytest.MonkeyPatch
) -> None:
    stand = place.stand
    unneeded = full["7.3.0"]
    monkeypatch.setattr(docker_room, "KEPT", 1)
    place.go_live(place.release("7.0.0"))
    live = place.go_live(place.release("7.1.0"), place.release("7.0.0"))
    place.target.retire(place.release("7.0.0"), keep_remains=False, token=place.token)
    for version in ("7.2.0", "7.4.0"):
        stand.engine.images.get(str(full[version])).tag("somebody.else/image", tag=version)
    try:
        measured: list[Path] = []

        def free(root: Path) -> int:
            measured.append(root)
            return round(GIB * (1.0 if is_here(stand, unneeded) else 2.5))

        Room(engine, 2.0, free).make_for(live, [])
        with pytest.raises(DeliveryError, match="GiB free"):
            Room(engine, 2.0, lambda _: GIB).make_for(live, [])
    finally:
        for version in ("7.2.0", "7.4.0"):
            stand.engine.images.remove(f"somebody.else/image:{version}")
    kept = {name: is_here(stand, image) for name, image in full.items()}
    # Replaced by the live one, live, somebody else's too, unneeded, somebody else's too, the newest of the application's own.
    assert kept == {"7.0.0": True, "7.1.0": True, "7.2.0": True, "7.3.0": False, "7.4.0": True, "7.5.0": True}
    assert {str(root) for root in measured} == {engine.data_root()}


def test_nothing_is_removed_while_there_is_room(place: Place, engine: Engine, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(docker_room, "KEPT", 0)
    release = place.release("7.6.0")
    place.target.prepare(release, place.token)
    Room(engine, 2.0, lambda _: 3 * GIB).make_for(place.release("7.7.0"), [])
    assert is_here(place.stand, release.images["api"])


def test_a_disk_that_stays_too_full_is_told_with_sizes_and_the_next_step(place: Place, engine: Engine) -> None:
    release = place.release("1.0.0")
    image = release.images["api"]
    largest = max(one.size for one in engine.images() if any(image.repository in name for name in one.names)) / GIB
    missing = replace(image, digest="sha256:" + "0" * 64)
    with pytest.raises(DeliveryError) as refused:
        Room(engine, 2.0, lambda _: 2 * GIB).make_for(release, [missing, missing])
    needed = 2.0 + 2 * ALLOWANCE * largest
    assert f"has 2.0 GiB free, expected at least {needed:.3g} GiB for a release (2 GiB that stay free" in refused.value.what
    assert "docker system df" in refused.value.next


def test_a_first_release_whose_size_nobody_knows_needs_the_floor(place: Place, engine: Engine) -> None:
    unknown = ImageRef("127.0.0.1:1", "never/seen", "sha256:" + "0" * 64)
    Room(engine, 2.0, lambda _: 2 * GIB).make_for(place.release("1.0.0"), [unknown])


def test_nothing_is_pulled_where_there_is_no_room(stand: Stand) -> None:
    name = stand.environment()
    release = stand.release("1.0.0", (web(),))
    remove_image(stand, release.images["api"])
    try:
        with pytest.raises(DeliveryError, match="GiB free"):
            stand.target(name, minimum_free_gib=1e6).prepare(release, token(name))
        assert not is_here(stand, release.images["api"])
    finally:
        stand.target(name, minimum_free_gib=0).prepare(release, token(name))
