import json
import tarfile
import tempfile
import time
from pathlib import Path

import docker
import pytest

from delivery.errors import DeliveryError
from deployments import base_images
from deployments.base_images import BASE_IMAGES, configured_ca, debian_sources, ensure_base_images

DEBIAN = """Types: deb
# a remark
URIs: http://mirror.example/debian
Suites: bookworm bookworm-updates bookworm-backports
Components: main contrib
Signed-By: /usr/share/keyrings/debian-archive-keyring.gpg

Types: deb-src
URIs: http://mirror.example/debian
Suites: bookworm
Components: main
"""


def sources(folder: Path, **files: str) -> Path:
    (folder / "sources.list.d").mkdir()
    for name, text in files.items():
        (folder / "sources.list.d" / name.replace("_", ".")).write_text(text)
    return folder


def test_debians_own_suites_are_kept_and_the_rest_is_left_out(tmp_path: Path) -> None:
    apt = sources(
        tmp_path,
        debian_sources=DEBIAN,
        docker_list="deb [arch=amd64 signed-by=/etc/docker.asc] https://engine.example/debian bookworm stable\n",
        pgdg_list="deb https://databases.example/apt bookworm-pgdg main\n",
    )
    assert debian_sources(apt) == (
        "Types: deb\n"
        "URIs: http://mirror.example/debian\n"
        "Suites: bookworm bookworm-updates\n"
        "Components: main\n"
        "Signed-By: /usr/share/keyrings/debian-archive-keyring.gpg\n"
    )


def test_the_one_line_format_is_read_as_well(tmp_path: Path) -> None:
    apt = sources(tmp_path)
    (apt / "sources.list").write_text(
        "# deb http://old.example/debian bookworm main\n"
        "deb [signed-by=/usr/share/keyrings/k.gpg] http://mirror.example/debian bookworm main contrib # ours\n"
    )
    assert debian_sources(apt) == (
        "Types: deb\nURIs: http://mirror.example/debian\nSuites: bookworm\nComponents: main\nSigned-By: /usr/share/keyrings/k.gpg\n"
    )


def test_a_disabled_source_is_not_used(tmp_path: Path) -> None:
    apt = sources(tmp_path, debian_sources=f"Enabled: no\n{DEBIAN}")
    with pytest.raises(DeliveryError, match="do not name Debian bookworm"):
        debian_sources(apt)


def test_another_debian_than_the_tags_say_is_refused(tmp_path: Path) -> None:
    apt = sources(tmp_path, debian_sources=DEBIAN.replace("bookworm", "trixie"))
    with pytest.raises(DeliveryError, match="do not name Debian bookworm"):
        debian_sources(apt)


def test_the_configured_ca_is_the_first_bundle_that_exists(tmp_path: Path) -> None:
    bundle = tmp_path / "ca.pem"
    bundle.write_text("PEM")
    assert configured_ca({"PIP_CERT": str(tmp_path / "gone"), "SSL_CERT_FILE": str(bundle)}) == bundle
    assert configured_ca({}) is None


def test_an_extra_ca_that_does_not_exist_is_refused(tmp_path: Path) -> None:
    with pytest.raises(DeliveryError, match="GREENROOM_EXTRA_CA"):
        configured_ca({"GREENROOM_EXTRA_CA": str(tmp_path / "gone"), "PIP_CERT": "/etc/hostname"})


def test_equal_content_gives_an_equal_build_context() -> None:
    image = next(image for image in BASE_IMAGES if image.files)
    archives = []
    for _ in range(2):
        with tempfile.TemporaryFile() as target:
            base_images._write_context(target, image)
            target.seek(0)
            archives.append(target.read())
            target.seek(0)
            with tarfile.open(fileobj=target) as archive:
                assert {entry.uid for entry in archive} == {0}
                assert archive.getmember("postgres-entrypoint.sh").mode & 0o111
    assert archives[0] == archives[1]


def test_a_recipe_changes_with_its_base_and_with_nothing_else() -> None:
    image = BASE_IMAGES[0]
    assert base_images._recipe_of(image, "a") == base_images._recipe_of(image, "a") != base_images._recipe_of(image, "b")


@pytest.mark.docker
def test_every_base_is_usable_and_a_second_call_makes_nothing_again(tmp_path: Path) -> None:
    engine = docker.from_env()
    first = ensure_base_images(state=tmp_path)
    ids = {reference: engine.images.get(reference).id for reference in first.values()}
    assert ensure_base_images(state=tmp_path) == first
    assert {reference: engine.images.get(reference).id for reference in first.values()} == ids
    assert list(first) == [image.upstream for image in BASE_IMAGES]


@pytest.mark.docker
def test_a_tag_that_would_lie_is_refused() -> None:
    image = ensure_base_images(["redis:7-bookworm"])["redis:7-bookworm"]
    with pytest.raises(DeliveryError, match=r"redis:8 would lie.*v=7"):
        base_images._refuse_a_lying_tag(docker.from_env(), image, "redis:8", ("redis-server", "--version"), "Redis server v=8")


@pytest.mark.docker
def test_what_neither_a_registry_nor_this_machine_has_is_refused_by_name(tmp_path: Path) -> None:
    (tmp_path / "base-images.json").write_text(json.dumps({"registry": {"silent_since": time.time()}}))
    with pytest.raises(DeliveryError, match="erlang:27 cannot be made here"):
        ensure_base_images(["erlang:27"], state=tmp_path)


@pytest.mark.docker
def test_a_daemon_installed_into_a_base_is_not_started_by_its_package() -> None:
    image = ensure_base_images(["python:3.11-slim-bookworm"])["python:3.11-slim-bookworm"]
    if not image.startswith("greenroom/"):
        pytest.skip("a registry answers: upstream's image is used as it is")
    with pytest.raises(docker.errors.ContainerError, match="exit status 101"):
        docker.from_env().containers.run(image, ["/usr/sbin/policy-rc.d"], remove=True)
