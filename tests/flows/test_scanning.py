"""Real syft and real Trivy on really built images in a real registry: what they find stops a release, and only what was signed counts."""

import json
import uuid
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from pathlib import Path

import docker
import pytest

from blocks.registry import OciRegistry
from blocks.settings import settings
from cli.main import run
from delivery.dsse import NotProven
from delivery.errors import DeliveryError, InvalidSettings
from delivery.image import ImageRef
from delivery.journal import Ending
from delivery.release import Release
from delivery.sbom import CYCLONEDX
from deployments.processes import free_ports
from deployments.stage import Registry
from flows.assembly import House
from flows.pipeline import require_ready
from flows.rollback import go_back
from flows.scanning import scan_again, scan_published
from flows.signing import sign_scan
from flows.telling import Telling
from tasks.chain import examine
from tests.flows.conftest import Stage
from tests.samples import a_release
from tests.signing import Keyring

pytestmark = [pytest.mark.docker, pytest.mark.scanners, pytest.mark.processes]

POLICY = "[provenance]\nrequired = false\n"
HOLE = {
    "id": "CVE-2026-0001",
    "affected": [
        {
            "package": {"ecosystem": "PyPI", "name": "leaky"},
            "ranges": [{"type": "ECOSYSTEM", "events": [{"introduced": "1.0"}, {"fixed": "1.4"}]}],
        }
    ],
    "database_specific": {"severity": "HIGH"},
    "summary": "lets in everybody",
}


@pytest.fixture(scope="module")
def registry(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Registry]:
    server = Registry(tmp_path_factory.mktemp("registry"), free_ports(["registry"])["registry"])
    server.start()
    yield server
    server.stop()


Build = Callable[..., ImageRef]


@pytest.fixture(scope="module")
def build(registry: Registry, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Build]:
    """Builds and pushes an image in which one Python package is installed."""
    engine, made = docker.from_env(), list[str]()
    block = OciRegistry(host=registry.address, namespace="team", insecure=True)

    def built(version: str, *, package: str = "leaky", revision: str = "", tag: str = "v1.0.0", user: str = "10001") -> ImageRef:
        folder = tmp_path_factory.mktemp("image")
        info = folder / f"{package}-{version}.dist-info"
        info.mkdir()
        (info / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {package}\nVersion: {version}\n")
        (info / "RECORD").write_text("")
        (info / "only").write_text(uuid.uuid4().hex)
        label = f"LABEL org.opencontainers.image.revision={revision or a_release('1.0.0').sha}\n"
        (folder / "Dockerfile").write_text(
            f"FROM scratch\nCOPY {info.name} /usr/lib/python3/site-packages/{info.name}\n{label}USER {user}\n"
        )
        made.append(f"greenroom.test/scanned:{uuid.uuid4().hex[:8]}")
        engine.images.build(path=str(folder), tag=made[-1], rm=True)
        return block.push(made[-1], repository="scanned", tags=[tag])

    yield built
    for name in made:
        engine.images.remove(engine.images.get(name).id, force=True)
    engine.close()


@dataclass
class Yard:
    stage: Stage
    block: OciRegistry
    build: Build

    @property
    def house(self) -> House:
        return self.stage.house

    def release(self, image: ImageRef, version: str = "1.0.0") -> Release:
        made = a_release(version, load=None, smoke=())
        release = replace(made, images=dict.fromkeys(made.images, image))
        self.house.store.save_release(release)
        return release

    def scanned(self, image: ImageRef) -> Release:
        release = self.release(image)
        sign_scan(self.house, release, scan_published(self.house, release))
        return release


@pytest.fixture
def yard(stage: Stage, registry: Registry, build: Build, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Yard:
    file = stage.environments / "production.toml"
    file.write_text(file.read_text().replace(POLICY, f"{POLICY}[image]\nscan_days = 30\n"))
    keyring = Keyring.made_in(stage.environments)
    block = OciRegistry(host=registry.address, namespace="team", insecure=True)
    stage.house.blocks._blocks["oci-registry", "default"] = block  # type: ignore[attr-defined]
    stage.house.blocks._blocks["signing-key", "default"] = keyring.mine  # type: ignore[attr-defined]
    feed = tmp_path / "advisories.json"
    feed.write_text(json.dumps({"as_of": f"{datetime.now(UTC):%Y-%m-%d}", "advisories": [HOLE]}))
    monkeypatch.setenv("GREENROOM_ADVISORIES", str(feed))
    stage.house = House(settings(), stage.house.store, stage.house.blocks)
    return Yard(stage, block, build)


def test_a_sound_image_goes_live_and_its_bill_of_materials_lies_beside_it_as_signed(yard: Yard) -> None:
    release = yard.scanned(yard.build("1.4"))
    assert yard.stage.bring(release, "production").ending is Ending.LIVE
    (document,) = yard.block.documents(release.images["api"], CYCLONEDX)
    assert [one["purl"] for one in json.loads(document)["components"]] == ["pkg:pypi/leaky@1.4"]
    production = yard.house.environment("production")
    found = examine(release, production.provenance, production.image, store=yard.house.store, keys=yard.house.keys(), registry=yard.block)
    (scan,) = (one for one in found if one.stage == "scan")
    assert (scan.well, scan.signed_by) == (True, "release.pub")
    assert "api: 1 packages, nothing found" in scan.what


def test_a_package_with_a_known_hole_stops_the_release_by_name(yard: Yard) -> None:
    release = yard.release(yard.build("1.3"))
    with pytest.raises(DeliveryError, match=r"production: high: .*leaky 1\.3 CVE-2026-0001 lets in everybody \(fix: leaky 1\.4\)"):
        scan_published(yard.house, release)


def test_what_is_scanned_is_the_digest_wherever_the_tag_has_moved(yard: Yard) -> None:
    sick = yard.release(yard.build("1.3", tag="v7.0.0"))
    sound = yard.build("1.4", tag="v7.0.0")
    assert sound.digest != sick.images["api"].digest
    with pytest.raises(DeliveryError, match="CVE-2026-0001"):
        scan_published(yard.house, sick)


def test_an_image_of_another_commit_is_stopped(yard: Yard) -> None:
    with pytest.raises(DeliveryError, match=r"label org\.opencontainers\.image\.revision is ffff"):
        scan_published(yard.house, yard.release(yard.build("1.4", revision="f" * 40)))


def test_an_image_that_runs_as_a_name_or_is_too_large_is_stopped(yard: Yard) -> None:
    file = yard.stage.environments / "production.toml"
    file.write_text(file.read_text().replace("scan_days = 30", "scan_days = 30\nmost_mb = 0.0001"))
    with pytest.raises(DeliveryError) as stopped:
        yard.scanned(yard.build("1.4", user="app"))
    assert "api user runs as 'app', which nobody can prove not to be root" in stopped.value.what
    assert "MB large, expected at most 0.0001" in stopped.value.what


def test_without_advisories_nothing_is_called_clean(yard: Yard, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("GREENROOM_ADVISORIES")
    yard.stage.house = House(settings(), yard.house.store, yard.house.blocks)
    with pytest.raises(DeliveryError, match="api was not scanned: no advisories were imported"):
        scan_published(yard.house, yard.release(yard.build("1.4")))


def test_without_syft_nothing_is_called_clean(yard: Yard, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    release = yard.release(yard.build("1.4"))
    for name, value in (("PATH", str(tmp_path)), ("HOME", str(tmp_path))):
        monkeypatch.setenv(name, value)
    monkeypatch.setattr("sys.executable", str(tmp_path / "python"))
    with pytest.raises(DeliveryError, match="syft"):
        scan_published(yard.house, release)


def test_an_unscanned_release_is_refused_with_the_next_step_and_nothing_begins(yard: Yard) -> None:
    release = yard.release(yard.build("1.4"))
    with pytest.raises(NotProven, match=r"Production does not take .*were not scanned: nothing was signed") as refused:
        yard.stage.bring(release, "production")
    assert refused.value.next == f"scan it again: `greenroom scan {release.id}`."
    assert yard.stage.production.acts == []
    scan_again(yard.house, release)
    assert yard.stage.bring(release, "production").ending is Ending.LIVE


def test_a_scan_that_is_too_old_is_refused_until_the_release_is_scanned_again(yard: Yard) -> None:
    release = yard.scanned(yard.build("1.4"))
    file = yard.stage.environments / "production.toml"
    text = file.read_text()
    file.write_text(text.replace("scan_days = 30", "scan_days = 0.0000001"))
    with pytest.raises(NotProven, match="were scanned on"):
        yard.stage.bring(release, "production")
    assert yard.stage.production.acts == []
    file.write_text(text)
    assert yard.stage.bring(release, "production").ending is Ending.LIVE


def test_going_back_waits_for_no_scan(yard: Yard) -> None:
    old = yard.scanned(yard.build("1.4"))
    assert yard.stage.bring(old, "production").ending is Ending.LIVE
    new = yard.release(yard.build("1.4", revision=str(a_release("1.1.0").sha)), "1.1.0")
    sign_scan(yard.house, new, scan_published(yard.house, new))
    assert yard.stage.bring(new, "production").ending is Ending.LIVE
    file = yard.stage.environments / "production.toml"
    file.write_text(file.read_text().replace("scan_days = 30", "scan_days = 0.0000001"))
    with Telling() as telling:
        record = go_back(yard.house, "production", version=None, reason="sick", by="a test", telling=telling)
    assert (record.release, record.ending) == (old.id, Ending.LIVE)


def test_an_altered_bill_of_materials_in_the_registry_is_refused(yard: Yard) -> None:
    release = yard.scanned(yard.build("1.4"))
    image = release.images["api"]
    (document,) = yard.block.documents(image, CYCLONEDX)
    (tagged,) = (one for one in yard.block.stored("scanned") if one.subject == image.digest)
    yard.block.remove("scanned", tagged.digest)
    yard.block.attach_document(image, document.replace(b"leaky", b"quiet"), kind=CYCLONEDX)
    with pytest.raises(NotProven, match="bill of materials of api in the registry is not the one that was signed"):
        yard.stage.bring(release, "production")
    assert yard.stage.production.acts == []


def test_the_command_scans_again_and_tells_what_was_found(
    yard: Yard, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    release = yard.release(yard.build("1.4"))
    blocks = yard.house.blocks
    monkeypatch.setattr("cli.house.LocalBlocks.of", lambda _installation: blocks)
    assert run(["scan", release.id]) == 0
    assert "api: 1 packages, nothing found" in capsys.readouterr().out
    assert yard.stage.bring(release, "production").ending is Ending.LIVE


def test_a_key_is_asked_for_before_anything_is_built(yard: Yard, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("GREENROOM_REPOSITORY", str(tmp_path))
    house = House(settings(), yard.house.store, yard.house.blocks)
    require_ready(house, "production")
    del house.blocks._blocks["signing-key", "default"]  # type: ignore[attr-defined]
    with pytest.raises(InvalidSettings, match="Production takes signed scans only"):
        require_ready(house, "production")
