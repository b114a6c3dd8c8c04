"""A real registry with fifteen versions keeps exactly the right ones; files and remains go by age, never from under somebody."""

import fcntl
import json
import os
import subprocess
import time
from collections.abc import Collection, Iterator, Sequence
from dataclasses import replace
from datetime import timedelta
from pathlib import Path

import pytest
from pydantic import SecretStr

from bench.images import Shelf
from blocks.journal import SqlJournal
from blocks.registry import OciRegistry
from delivery.environment import Environment
from delivery.image import ImageRef, tags_at_publish
from delivery.journal import Ending, Evidence, Journal
from delivery.links import LINK_V1
from delivery.plan import plan_rollout
from delivery.release import Release, build_of
from delivery.sbom import CYCLONEDX
from deployments.processes import free_ports
from deployments.programs import program
from deployments.stage import Registry
from tasks.housekeeping import bury_remains, needed_releases, sweep_folders, sweep_registry
from tests.samples import a_release, an_environment
from tests.simulated_target import Running, SimulatedTarget

REPOSITORY = "dealbrain-api"


@pytest.fixture
def server(tmp_path: Path) -> Iterator[Registry]:
    server = Registry(tmp_path / "registry", free_ports(["registry"])["registry"])
    server.start()
    yield server
    server.stop()


@pytest.fixture
def store(tmp_path: Path) -> Iterator[SqlJournal]:
    store = SqlJournal(SecretStr(f"sqlite:///{tmp_path / 'journal.db'}"))
    store.migrate()
    yield store
    store.close()


def published(store: SqlJournal, host: str, version: str, digest: str) -> Release:
    release = a_release(version, load=None, smoke=())
    release = replace(release, images={**release.images, "api": ImageRef(host, REPOSITORY, digest)})
    store.save_release(release)
    return release


def beside(registry: OciRegistry, release: Release) -> tuple[Sequence[bytes], Sequence[bytes]]:
    """The bills of materials and the signed envelopes that the house itself put beside an image."""
    image = release.images["api"]
    return registry.documents(image, CYCLONEDX), registry.attached(image)


def bring(store: SqlJournal, release: Release, environment: Environment, target: SimulatedTarget, *, sick_at: Collection[str] = ()) -> None:
    """The journal's side of a rollout, from which everything is decided here."""
    plan = plan_rollout(release, environment, capabilities=target.capabilities, blue=store.live(environment.name))
    lease = store.acquire(environment.name, holder="a test", purpose="a test", ttl=timedelta(seconds=60))
    rollout = store.open_rollout(lease, plan, by="a test")
    journal = Journal(store.log_of(rollout, lease))
    while step := journal.next_step():
        journal.started(step)
        journal.finished(step, Evidence(well=step.name not in sick_at, summary="seen"))
    journal.close()
    store.give_up(lease)


@pytest.mark.processes
def test_of_fifteen_versions_the_newest_ten_the_live_the_previous_and_the_asked_for_stay_whole(
    server: Registry, store: SqlJournal, tmp_path: Path
) -> None:
    shelf, registry = Shelf(server.address, REPOSITORY), OciRegistry(host=server.address, insecure=True)
    production, target = an_environment("production"), SimulatedTarget()
    releases = []
    for number in range(15):
        sample = a_release(f"1.{number}.0")
        names = tags_at_publish(sample.version, sample.sha, on_main=number == 14)
        # 1.3.0 and 1.14.0 have the very same content.
        digest = shelf.signed_index(f"content {14 if number == 3 else number}", *names)
        releases.append(published(store, server.address, f"1.{number}.0", digest))
        image = releases[-1].images["api"]
        registry.attach_document(image, f'{{"bill of": "{digest}"}}'.encode(), kind=CYCLONEDX)
        registry.attach(image, json.dumps({"payload": digest}).encode(), predicate_type=LINK_V1)
    described = {release.version.tag: beside(registry, release) for release in releases}
    assert all((len(bills), len(scans)) == (1, 1) for bills, scans in described.values())
    foreign = str(shelf.image("somebody else's", "v99")["digest"])
    for number in (0, 1):
        bring(store, releases[number], production, target)
    asked = plan_rollout(releases[2], production, capabilities=target.capabilities, blue=releases[1])
    store.open_request(asked, key="a run", expires_at=store.now() + timedelta(hours=1))

    shown = sweep_registry(store, registry, ["production"], keep=10, act=False)
    assert all(shelf.is_whole(release.images["api"].digest) for release in releases)
    done = sweep_registry(store, registry, ["production"], keep=10, act=True)
    assert [(one.thing, one.goes) for one in done] == [(one.thing, one.goes) for one in shown]

    gone = {release.version.tag for release in releases if not shelf.can_pull(release.images["api"].digest)}
    assert gone == {"v1.4.0"}  # 0: previous, 1: live, 2: asked for, 3: shared with the newest, 5 to 14: the newest ten
    assert all(shelf.is_whole(release.images["api"].digest) for release in releases if release.version.tag not in gone)
    assert {release.version.tag: beside(registry, release) for release in releases if release.version.tag not in gone} == {
        tag: told for tag, told in described.items() if tag not in gone
    }
    assert beside(registry, releases[4]) == ((), ())
    assert shelf.can_pull(foreign)
    tag = releases[4].images["api"].digest.replace(":", "-")
    assert not shelf.can_pull(tag)
    assert not shelf.can_pull(f"{tag}.sig")
    assert not any(one.goes for one in sweep_registry(store, registry, ["production"], keep=10, act=True))

    layer = shelf.layer("content 4")
    assert shelf.has(layer)  # a manifest that is gone gives no room back
    server.stop()
    subprocess.run([program("docker-registry"), "garbage-collect", str(tmp_path / "registry" / "registry" / "config.yml")], check=True)
    server.start()
    assert not shelf.has(layer)
    assert beside(registry, releases[5]) == described["v1.5.0"]
    assert all(shelf.is_whole(release.images["api"].digest) for release in releases if release.version.tag not in gone)
    assert shelf.can_pull(foreign)


def test_other_settings_of_the_live_release_do_not_use_up_the_ways_back(store: SqlJournal) -> None:
    production, target = an_environment("production"), SimulatedTarget()
    releases = [published(store, "ghcr.io", f"1.{number}.0", f"sha256:{str(number) * 64}") for number in range(3)]
    for release in releases:
        bring(store, release, production, target)
    for number in range(2, 6):
        fresh = releases[-1].with_settings(number)
        store.save_release(fresh)
        bring(store, fresh, production, target)
    assert {build_of(one) for one in needed_releases(store, ["production"])} == {release.id for release in releases}


def old(path: Path, *, days: float) -> Path:
    at = time.time() - days * 86400
    os.utime(path, (at, at))
    return path


def test_files_that_nobody_touched_for_long_go_and_others_stay(tmp_path: Path) -> None:
    for name in ("old", "new", "used", "touched"):
        (tmp_path / "checkouts" / name).mkdir(parents=True)
        (tmp_path / "checkouts" / name / "file").touch()
        (tmp_path / "checkouts" / f"{name}.lock").touch()
    foreign = old(tmp_path, days=0) / "elsewhere"
    foreign.mkdir()
    (foreign / "precious").touch()
    (tmp_path / "checkouts" / "old" / "link").symlink_to(foreign)
    os.utime(tmp_path / "checkouts" / "old" / "link", (0, 0), follow_symlinks=False)
    for name in ("old", "used", "touched"):
        folder = tmp_path / "checkouts" / name
        for entry in (folder / "file", folder):
            old(entry, days=31)
    (tmp_path / "checkouts" / "touched" / "file").write_text("now")
    old(tmp_path / "checkouts" / "touched", days=31)
    unknown = tmp_path / "journal.db"
    unknown.touch()
    old(unknown, days=1000)

    with (tmp_path / "checkouts" / "used.lock").open() as held:
        fcntl.flock(held, fcntl.LOCK_SH)
        shown = sweep_folders(tmp_path, days=30, act=False)
        assert (tmp_path / "checkouts" / "old").exists()
        done = sweep_folders(tmp_path, days=30, act=True)
    assert [one.thing for one in shown] == [one.thing for one in done] == ["checkouts/old"]
    left = {entry.name for entry in (tmp_path / "checkouts").iterdir() if entry.is_dir()}
    assert left == {"new", "used", "touched"}
    assert (foreign / "precious").exists()
    assert unknown.exists()


@pytest.mark.parametrize("folder", ["logs/abc", "reports/v1.0.0-100aaaaa", "rollouts/production-1", "sboms/5f7a"])
def test_what_was_kept_of_checks_and_rollouts_goes_by_age_and_says_why(tmp_path: Path, folder: str) -> None:
    kept = tmp_path / folder / "file"
    kept.parent.mkdir(parents=True)
    kept.write_text("told")
    for entry in (kept, kept.parent):
        os.utime(entry, (0, 0))
    now = timedelta(days=31).total_seconds()
    assert sweep_folders(tmp_path, days=32, act=True, now=now) == ()
    (shown,) = sweep_folders(tmp_path, days=30, act=False, now=now)
    assert (shown.thing, shown.why, kept.exists()) == (folder, "not touched for 30 days", True)
    sweep_folders(tmp_path, days=30, act=True, now=now)
    assert not kept.parent.exists()


def test_remains_of_a_turned_back_release_go_by_age_and_nothing_else_goes(store: SqlJournal) -> None:
    production, target = an_environment("production"), SimulatedTarget()
    live, sick = published(store, "host:1", "1.0.0", "sha256:" + "1" * 64), published(store, "host:1", "1.1.0", "sha256:" + "2" * 64)
    bring(store, live, production, target)
    bring(store, sick, production, target, sick_at={"launch"})
    [record, _] = store.rollouts(environment="production")
    assert record.ending is Ending.UNTOUCHED
    target.releases = {live.id: Running(up=True), sick.id: Running(remains=True)}
    target.weights = {live.id: 100}

    def bury(*, days: float, act: bool) -> list[str]:
        ttl = timedelta(seconds=10)
        return [one.thing for one in bury_remains(store, target, production, days=days, act=act, holder="me", ttl=ttl)]

    assert not bury(days=1, act=True)
    assert bury(days=0, act=False) == [f"remains of {sick.id} in production"]
    assert target.observe().present == {live.id, sick.id}
    assert bury(days=0, act=True) == [f"remains of {sick.id} in production"]
    assert target.observe().present == {live.id}


def test_what_a_person_is_to_look_at_stays_however_old(store: SqlJournal) -> None:
    production, target = an_environment("production"), SimulatedTarget()
    live, sick = published(store, "host:1", "1.0.0", "sha256:" + "1" * 64), published(store, "host:1", "1.1.0", "sha256:" + "2" * 64)
    bring(store, live, production, target)
    bring(store, sick, production, target, sick_at={"launch", "restore"})
    assert store.rollouts(environment="production")[0].ending is Ending.NEEDS_HUMAN
    target.releases, target.weights = {live.id: Running(up=True), sick.id: Running(remains=True)}, {live.id: 100}
    assert not bury_remains(store, target, production, days=0, act=True, holder="me", ttl=timedelta(seconds=10))
