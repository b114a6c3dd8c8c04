"""Only what is proven runs: each forgery against a real registry is refused, and nothing is started."""

from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from pathlib import Path

import httpx
import pytest

from blocks.keyless import KeylessSigning
from blocks.registry import OciRegistry
from blocks.settings import settings
from delivery.dsse import NotProven
from delivery.errors import InvalidSettings
from delivery.journal import Ending
from delivery.release import Release
from deployments.processes import free_ports
from deployments.stage import Registry
from flows.assembly import House
from flows.pipeline import require_ready
from flows.rollback import go_back
from flows.telling import Telling
from flows.trust import sign_release
from tasks.sign import sign_provenance
from tests.flows.conftest import Stage
from tests.samples import a_release
from tests.signing import AT, BUILD, REPOSITORY, Keyring, a_source, provenance, put_image, sign_images, with_images
from tests.sigstore_server import ISSUER, WORKFLOW, sigstore

pytestmark = pytest.mark.processes

TRUSTED = f"""\
[provenance]
keys = ["release.pub"]
repository = "{REPOSITORY}"
branch = "main"
"""


@pytest.fixture(scope="module")
def registry(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Registry]:
    server = Registry(tmp_path_factory.mktemp("registry"), free_ports(["registry"])["registry"])
    server.start()
    yield server
    server.stop()


@dataclass
class Yard:
    """A production that takes proven releases only, a registry, and keys."""

    stage: Stage
    keyring: Keyring
    block: OciRegistry

    @property
    def house(self) -> House:
        return self.stage.house

    def a_release(self, version: str) -> Release:
        release = with_images(a_release(version, load=None, smoke=()), self.block.host)
        self.house.store.save_release(release)
        return release

    def proven(self, version: str, *, in_journal: bool = False) -> Release:
        release = self.a_release(version)
        for envelope in sign_images(release, self.keyring, self.block):
            if in_journal:
                self.house.store.keep_envelope(release.id, envelope)
        return release

    def require_untouched(self, release: Release, why: str) -> None:
        """A rollout of the release is refused for this reason, and nothing has been started, opened or moved."""
        live = self.stage.production.live
        acts, rollouts = list(self.stage.production.acts), len(self.house.store.rollouts())
        with pytest.raises(NotProven, match=why) as refused:
            self.stage.bring(release, "production")
        assert str(refused.value).startswith(f"Production does not take {release.id}. The image of ")
        assert self.stage.production.acts == acts
        assert self.stage.production.live == live
        assert len(self.house.store.rollouts()) == rollouts


@pytest.fixture
def yard(stage: Stage, registry: Registry, monkeypatch: pytest.MonkeyPatch) -> Yard:
    file = stage.environments / "production.toml"
    file.write_text(file.read_text().replace("[provenance]\nrequired = false\n", TRUSTED))
    keyring = Keyring.made_in(stage.environments)
    block = OciRegistry(host=registry.address, insecure=True)
    stage.house.blocks._blocks["oci-registry", "default"] = block  # type: ignore[attr-defined]
    stage.house.blocks._blocks["signing-key", "default"] = keyring.mine  # type: ignore[attr-defined]
    monkeypatch.setenv("GREENROOM_REPOSITORY", REPOSITORY)
    stage.house = House(settings(), stage.house.store, stage.house.blocks)
    return Yard(stage, keyring, block)


@pytest.mark.parametrize("in_journal", [False, True])
def test_a_proven_release_goes_live(yard: Yard, in_journal: bool) -> None:  # noqa: FBT001
    release = yard.proven("1.0.0", in_journal=in_journal)
    assert yard.stage.bring(release, "production").ending is Ending.LIVE


def test_a_release_that_a_pipeline_signed_without_a_key_goes_live_and_another_pipeline_s_does_not(
    yard: Yard, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    file = yard.stage.environments / "production.toml"
    file.write_text(file.read_text().replace('keys = ["release.pub"]', 'keys = ["ci.sigstore.toml"]'))
    with sigstore() as instance:
        config, root = instance.write_trust(tmp_path)
        (yard.keyring.folder / root.name).write_bytes(root.read_bytes())
        trusted = f'issuer = "{ISSUER}"\nidentity = "{WORKFLOW}"\nroot = "{root.name}"\n'
        (yard.keyring.folder / "ci.sigstore.toml").write_text(trusted)
        keyless = KeylessSigning(token_variable="CI_TOKEN", trust_config=config)
        yard.house.blocks._blocks["keyless-signing", "default"] = keyless  # type: ignore[attr-defined]
        by_key = yard.proven("1.0.0")
        assert yard.house.signer() == yard.keyring.mine  # no token: the key signs
        releases = []
        for version, identity in (("1.1.0", WORKFLOW.replace("main", "mine")), ("1.2.0", WORKFLOW)):
            monkeypatch.setenv("CI_TOKEN", instance.token(identity))
            releases.append(yard.a_release(version))
            signer = yard.house.signer()
            assert signer is not None
            sign_provenance(releases[-1], a_source(releases[-1]), BUILD, signer, yard.block)
    yard.require_untouched(by_key, "none of 1 signatures beside it is by a trusted key")
    yard.require_untouched(releases[0], "none of 1 signatures beside it is by a trusted key")
    assert yard.stage.bring(releases[1], "production").ending is Ending.LIVE


def test_an_unsigned_image_is_refused(yard: Yard) -> None:
    yard.require_untouched(yard.a_release("1.0.0"), "The image of api in v1.0.0 is not proven: nobody signed where it comes from")


def test_one_unsigned_image_of_two_is_refused(yard: Yard) -> None:
    release = yard.proven("1.0.0")
    half = replace(release, images={**release.images, "worker": put_image(yard.block.host, "shop-worker")})
    yard.require_untouched(half, "The image of worker in v1.0.0 is not proven: nobody signed")


def test_a_strangers_signature_is_refused(yard: Yard) -> None:
    release = yard.a_release("1.0.0")
    for name, image in release.images.items():
        yard.block.attach(image, yard.keyring.signed_by_stranger(provenance(release, name)), predicate_type="x")
    yard.require_untouched(release, "none of 1 signatures beside it is by a trusted key")


def test_altered_provenance_is_refused(yard: Yard) -> None:
    release = yard.a_release("1.0.0")
    honest = yard.keyring.mine.sign(
        "application/vnd.in-toto+json", provenance(release, build=replace(BUILD, builder="urn:laptop")).written()
    )
    altered = replace(honest, payload=honest.payload.replace(b"urn:laptop", b"urn:greenroom:builder"))
    yard.block.attach(release.images["api"], altered.written(), predicate_type="x")
    yard.require_untouched(release, "none of 1 signatures beside it is by a trusted key")


def test_a_statement_about_another_digest_is_refused(yard: Yard) -> None:
    other, release = yard.proven("1.0.0"), yard.a_release("1.0.1")
    for name, image in release.images.items():
        yard.block.attach(image, yard.keyring.signed(provenance(other, name)), predicate_type="x")
    yard.require_untouched(release, f"it is about {other.images['api'].digest}, not about {release.images['api'].digest}")


def test_the_images_of_an_earlier_release_under_a_new_version_are_refused(yard: Yard) -> None:
    earlier = yard.proven("1.0.0")
    relabelled = replace(a_release("1.0.1", load=None, smoke=()), images=earlier.images)
    yard.house.store.save_release(relabelled)
    yard.require_untouched(relabelled, "commit: got 100a.*; version: got 1.0.0, expected 1.0.1")


def signed_otherwise(release: Release, what: str) -> dict[str, object]:
    source = a_source(release)
    return {
        "fork": {"source": replace(source, repository="https://example.org/fork.git")},
        "branch": {"source": replace(source, on_main=False)},
        "laptop": {"build": replace(BUILD, builder="urn:laptop")},
    }[what]


@pytest.mark.parametrize(
    ("what", "why"),
    [
        ("fork", f"repository: got https://example.org/fork.git, expected {REPOSITORY}"),
        ("branch", "branch: got nothing, expected main"),
        ("laptop", "builder: got urn:laptop, expected urn:greenroom:builder"),
    ],
)
def test_what_the_policy_does_not_want_is_refused_although_it_is_signed(yard: Yard, what: str, why: str) -> None:
    release = yard.a_release("1.0.0")
    statement = provenance(release, **signed_otherwise(release, what))  # type: ignore[arg-type]
    yard.block.attach(release.images["api"], yard.keyring.signed(statement), predicate_type="x")
    yard.require_untouched(release, why)


def move(yard: Yard, repository: str, tag: str, digest: str) -> None:
    """Somebody points a tag at something else."""
    with httpx.Client(base_url=f"http://{yard.block.host}/v2/{repository}/manifests", trust_env=False) as client:
        kinds = "application/vnd.oci.image.manifest.v1+json, application/vnd.oci.image.index.v1+json"
        manifest = client.get(f"/{digest}", headers={"Accept": kinds})
        assert client.put(f"/{tag}", content=manifest.content, headers={"Content-Type": manifest.headers["Content-Type"]}).is_success


def test_a_moved_version_tag_changes_nothing_of_what_runs(yard: Yard) -> None:
    release = yard.proven("1.0.0")
    evil = put_image(yard.block.host, "shop-api", "evil")
    move(yard, "shop-api", "v1.0.0", evil.digest)
    record = yard.stage.bring(release, "production")
    assert record.ending is Ending.LIVE
    prepared = yard.house.store.entries(record.id)[2].event.evidence.facts["images"]  # type: ignore[union-attr]
    assert prepared["api"] == str(release.images["api"]) != str(evil)  # type: ignore[index]


def test_moved_tags_of_signatures_prove_nothing_about_another_image(yard: Yard) -> None:
    proven, release = yard.proven("1.0.0"), yard.a_release("1.0.1")
    for name, image in release.images.items():
        theirs, ours = (one.digest.replace(":", "-") for one in (proven.images[name], image))
        for end in ("", ".att"):
            move(yard, f"shop-{name}", f"{ours}{end}", f"{theirs}{end}")
    yard.require_untouched(release, "it is about sha256:")


def test_a_release_that_loses_its_proof_on_the_way_is_turned_back_before_the_promotion(yard: Yard) -> None:
    yard.stage.bring(yard.proven("1.0.0"), "production")
    release = yard.proven("1.1.0")

    def revoke(verb: str, when: str) -> None:
        if verb.startswith("shift") and when == "after":
            other = yard.keyring.stranger.public_pem()
            (yard.keyring.folder / "release.pub").write_bytes(other)

    yard.stage.production.spoil = revoke
    record = yard.stage.bring(release, "production")
    assert record.ending is Ending.ROLLED_BACK
    assert "promote failed: Production does not take" in str(record.message)
    assert yard.stage.production.live != release.id


def back(yard: Yard, version: str) -> str:
    with Telling() as telling:
        record = go_back(yard.house, "production", version=version, reason="because", by="Ann", telling=telling)
    return str(record.message)


def lived(yard: Yard, make: Callable[[str], Release]) -> tuple[Release, Release]:
    """Two releases that were live in production, one after the other, and now the second is."""
    first, second = make("1.0.0"), yard.proven("1.1.0")
    yard.stage.bring(first, "production")
    yard.stage.bring(second, "production")
    return first, second


def test_going_back_needs_the_proof_as_well(yard: Yard) -> None:
    lived(yard, yard.proven)
    (yard.keyring.folder / "release.pub").write_bytes(yard.keyring.stranger.public_pem())
    acts = list(yard.stage.production.acts)
    with pytest.raises(NotProven, match=r"Production does not take v1.0.0-.* trusted key"):
        back(yard, "1.0.0")
    assert yard.stage.production.acts == acts


def test_going_back_asks_no_registry_when_the_journal_has_the_proof(yard: Yard) -> None:
    lived(yard, lambda version: yard.proven(version, in_journal=True))
    yard.house.blocks._blocks["oci-registry", "default"] = OciRegistry(host="127.0.0.1:9", insecure=True)  # type: ignore[attr-defined]
    assert back(yard, "1.0.0") == "Production runs v1.0.0."


def test_a_copy_in_the_journal_is_believed_no_more_than_any_other(yard: Yard) -> None:
    release = yard.a_release("1.0.0")
    yard.house.store.keep_envelope(release.id, yard.keyring.signed_by_stranger(provenance(release)))
    yard.require_untouched(release, "The image of api in v1.0.0 is not proven: nobody signed where it comes from")


def test_what_the_pipeline_signs_is_what_production_takes(yard: Yard) -> None:
    release = yard.a_release("1.0.0")
    application = type("Bases", (), {"bases": {}})()
    envelopes = sign_release(yard.house, release, a_source(release), application, started=AT)
    assert len(envelopes) == len(release.images)
    assert yard.stage.bring(release, "production").ending is Ending.LIVE


def test_without_a_key_a_run_that_must_sign_is_refused_before_it_builds(yard: Yard) -> None:
    require_ready(yard.house, "production")
    del yard.house.blocks._blocks["signing-key", "default"]  # type: ignore[attr-defined]
    require_ready(yard.house, "staging")
    with pytest.raises(InvalidSettings, match="Production takes signed releases only, and there is no block signing-key/default"):
        require_ready(yard.house, "production")


def test_only_the_environment_file_switches_it_off(yard: Yard) -> None:
    file = yard.stage.environments / "production.toml"
    file.write_text(file.read_text().replace(TRUSTED, ""))
    yard.require_untouched(yard.a_release("1.0.0"), "nobody signed where it comes from")
    file.write_text(file.read_text() + "[provenance]\nrequired = false\n")
    assert yard.stage.bring(yard.a_release("1.0.1"), "production").ending is Ending.LIVE
