"""`greenroom doctor`: everything a rollout leans on, looked at once, with what to do about it."""

import json
import shutil
from collections.abc import Callable, Iterator, Mapping
from datetime import UTC, datetime, timedelta
from functools import cached_property
from ipaddress import IPv4Address, IPv6Address, ip_address
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import httpx

from blocks.documents import to_document
from blocks.local import local_blocks
from blocks.registry import OciRegistry
from blocks.settings import Settings, environment_names, settings
from cli.house import open_local_house
from cli.journal import open_journal
from cli.prefect import open_api
from delivery.errors import DeliveryError, InvalidSettings
from deployments.machine import engine_client
from deployments.register import POOL, deployment_names
from flows.examination import Finding, examine_environment, examine_secrets, examine_signing_key, examine_values
from flows.heartbeat import last_beat
from tasks.build import choose_builder

GIB = 1024**3
NEEDED_ROOM, COMFORTABLE_ROOM = 2 * GIB, 10 * GIB

# It is scheduled each minute.
RECOVER_IS_LATE = timedelta(minutes=5)


def show_examination(*, as_json: bool) -> bool:
    """True when nothing is missing."""
    findings = list(Examination(settings()).findings())
    if as_json:
        print(json.dumps([to_document(finding) for finding in findings], ensure_ascii=False))
    else:
        width = max(len(finding.name) for finding in findings)
        for finding in findings:
            print(f"{finding.verdict:<8} {finding.name:<{width}}  {finding.evidence}")
            if finding.verdict != "ok":
                print(f"{'':<8} {'':<{width}}  Next: {finding.next}")
    return all(finding.verdict != "missing" for finding in findings)


class Examination:
    """One look at everything. Each question answers for itself: one that breaks is a finding, not the end."""

    def __init__(self, installation: Settings) -> None:
        self._settings = installation
        self._api = open_api(installation)

    def findings(self) -> Iterator[Finding]:
        questions: list[tuple[str, Callable[[str], Finding]]] = [
            ("Docker engine", self._engine),
            ("live-restore", self._live_restore),
            ("image builder", self._builder),
            ("disk room", self._room),
            ("journal", self._journal),
            ("abandoned rollouts", self._abandoned),
            ("blocks file", self._blocks_file),
            ("registry", self._registry),
            ("signing key", self._signing_key),
            *((f"environment {name}", self._environment) for name in environment_names(self._settings.environments_dir)),
            *((f"values of {name}", self._values) for name in environment_names(self._settings.environments_dir)),
            *((f"secrets of {name}", self._secrets) for name in environment_names(self._settings.environments_dir)),
            ("Prefect server", self._prefect),
            ("Prefect's door", self._prefect_door),
            ("Prefect's old runs", self._old_runs),
            ("deployments", self._deployments),
            ("worker", self._worker),
            ("recover flow", self._recover),
            ("steward", self._steward),
            ("repository", self._repository),
        ]
        for name, question in questions:
            try:
                yield question(name)
            except DeliveryError as broken:
                yield Finding(name, "missing", broken.what, broken.next)
            except Exception as broken:  # noqa: BLE001  a text that nobody checked may hold a secret: the type is enough
                yield Finding(name, "missing", f"could not be looked at ({type(broken).__name__}).", "run it with GREENROOM_DEBUG=1.")

    @cached_property
    def _engine_info(self) -> Mapping[str, Any]:
        client = engine_client(timeout_seconds=10)
        try:
            return dict(client.info())
        finally:
            client.close()

    @cached_property
    def _blocks(self) -> Mapping[tuple[str, str], Any]:
        return local_blocks(self._settings)

    def _engine(self, name: str) -> Finding:
        info = self._engine_info
        return Finding(name, "ok", f"version {info['ServerVersion']}, {info['ContainersRunning']} containers run, storage {info['Driver']}")

    def _live_restore(self, name: str) -> Finding:
        if self._engine_info.get("LiveRestoreEnabled"):
            return Finding(name, "ok", "containers survive a restart of the engine")
        return Finding(
            name,
            "look",
            "containers stop when the engine restarts",
            'write {"live-restore": true} into /etc/docker/daemon.json and reload it.',
        )

    def _builder(self, name: str) -> Finding:
        return Finding(name, "ok", choose_builder().title)

    def _room(self, name: str) -> Finding:
        places = {"work directory": self._settings.work_dir, "engine": Path(str(self._engine_info["DockerRootDir"]))}
        free = {label: shutil.disk_usage(_existing(place)).free for label, place in places.items()}
        evidence = ", ".join(f"{label} {room / GIB:.1f} GiB free" for label, room in free.items())
        least = min(free.values())
        if least < NEEDED_ROOM:
            return Finding(name, "missing", evidence, "make room: a release needs 2 GiB (`docker image prune` is a start).")
        if least < COMFORTABLE_ROOM:
            return Finding(name, "look", evidence, "make room soon: images of some releases need more than 10 GiB.")
        return Finding(name, "ok", evidence)

    def _journal(self, name: str) -> Finding:
        with open_journal(self._settings) as store:
            newest = store.rollouts(limit=20)
            for record in newest:
                store.verify_chain(record.id)
            clock = store.now()
        return Finding(
            name, "ok", f"answers, its clock says {clock:%H:%M:%S} UTC, the chains of the newest {len(newest)} rollouts are whole"
        )

    def _abandoned(self, name: str) -> Finding:
        with open_journal(self._settings) as store:
            held = {lease.environment for lease in store.leases() if lease.expires_at > store.now()}
            lost = [record.id for record in store.rollouts(open_only=True) if record.environment not in held]
        if lost:
            return Finding(
                name, "look", f"nobody works on {', '.join(lost)}", "run `greenroom steward --once`, or the deployment recover/recover."
            )
        return Finding(name, "ok", "none")

    def _blocks_file(self, name: str) -> Finding:
        blocks = self._blocks
        return Finding(name, "ok", f"{len(blocks)} blocks, readable by its owner only: `rollback` works without Prefect")

    def _registry(self, name: str) -> Finding:
        wanted = self._settings.registry
        registry = next((b for (_, n), b in self._blocks.items() if isinstance(b, OciRegistry) and n == wanted), None)
        if registry is None:
            raise InvalidSettings(f"There is no oci-registry block {wanted!r}.", next="write it into the blocks file (docs/operating.md).")
        registry.is_ready()
        return Finding(name, "ok", f"{registry.host} answers")

    def _signing_key(self, name: str) -> Finding:
        with open_local_house() as house:
            return examine_signing_key(house, name)

    def _environment(self, name: str) -> Finding:
        with open_local_house() as house:
            return examine_environment(house, name.removeprefix("environment "), name)

    def _values(self, name: str) -> Finding:
        with open_local_house() as house:
            return examine_values(house, name.removeprefix("values of "), name)

    def _secrets(self, name: str) -> Finding:
        with open_local_house() as house:
            return examine_secrets(house, name.removeprefix("secrets of "), name)

    def _prefect(self, name: str) -> Finding:
        if self._api.answers():
            return Finding(name, "ok", f"{self._api.ui_url} is healthy")
        return Finding(
            name, "missing", f"{self._api.ui_url} does not answer", "start it; until then `greenroom rollback --via direct` works."
        )

    def _prefect_door(self, name: str) -> Finding:
        url = urlsplit(self._api.ui_url)
        port = url.port or (443 if url.scheme == "https" else 80)
        if not self._api.answers():
            return self._not_looked_at(name)
        with httpx.Client(timeout=5.0, trust_env=False) as stranger:
            asks = stranger.post(f"{self._api.ui_url}/api/flow_runs/filter", json={"limit": 1}).status_code in (401, 403)
        bound = _listening(port) if url.hostname in ("127.0.0.1", "localhost", "::1") else [f"another machine ({url.hostname})"]
        is_public = any(not _is_loopback(address) for address in bound)
        told = f"listens on {', '.join(bound) or 'an unknown address'}, {'asks for credentials' if asks else 'asks nobody who they are'}"
        if asks:
            return Finding(name, "ok", told)
        if is_public:
            return Finding(
                name,
                "missing",
                f"{told}: whoever reaches it may approve",
                "set PREFECT_SERVER_API_AUTH_STRING, or let it listen on 127.0.0.1.",
            )
        return Finding(name, "ok", f"{told}: whoever works on this machine may approve")

    def _old_runs(self, name: str) -> Finding:
        if not self._api.answers():
            return self._not_looked_at(name)
        try:
            kept = self._api.runs_kept()
        except DeliveryError as unknown:
            return Finding(name, "look", unknown.what, unknown.next)
        if kept is None:
            return Finding(
                name, "look", "are kept for ever", "start the server with PREFECT_SERVER_SERVICES_DB_VACUUM_ENABLED=events,flow_runs."
            )
        return Finding(name, "ok", f"are deleted by its server after {kept.days} days")

    def _deployments(self, name: str) -> Finding:
        if not self._api.answers():
            return self._not_looked_at(name)
        wanted = deployment_names()
        for deployment in wanted:
            self._api.deployment_id(deployment)
        return Finding(name, "ok", f"{', '.join(wanted)} are registered")

    def _worker(self, name: str) -> Finding:
        if not self._api.answers():
            return self._not_looked_at(name)
        if count := self._api.workers_online(POOL):
            return Finding(name, "ok", f"{count} online in the pool {POOL}")
        return Finding(
            name, "missing", f"none is online in the pool {POOL}", f"start one: prefect worker start --pool {POOL} --type process."
        )

    def _recover(self, name: str) -> Finding:
        if not self._api.answers():
            return self._not_looked_at(name)
        newest = self._api.newest_start("recover/recover")
        if newest and newest > datetime.now(UTC) - RECOVER_IS_LATE:
            return Finding(name, "ok", "it is scheduled")
        return Finding(
            name,
            "missing",
            "it is not scheduled: abandoned rollouts wait, warm releases stay",
            "activate the schedule of recover/recover, and look at the server's log.",
        )

    def _steward(self, name: str) -> Finding:
        """As far as this machine's work directory tells: one that runs elsewhere is not seen from here."""
        newest = last_beat(self._settings)
        if newest and newest.is_fresh:
            return Finding(name, "ok", f"{newest.who} looked into the journal {newest.seconds_ago:.0f} s ago")
        told = f"the last one here ({newest.who}) has been silent for {newest.seconds_ago:.0f} s" if newest else "none has ever run here"
        return Finding(
            name,
            "look",
            f"{told}: an abandoned rollout waits for the recover flow, up to a minute and a half",
            "run `greenroom steward` as a service beside the worker (docs/operating.md).",
        )

    @staticmethod
    def _not_looked_at(name: str) -> Finding:
        return Finding(name, "look", "not looked at: the server does not answer", "start it.")

    def _repository(self, name: str) -> Finding:
        if self._settings.repository:
            return Finding(name, "ok", "GREENROOM_REPOSITORY is set")
        return Finding(name, "missing", "no repository is set", "set GREENROOM_REPOSITORY to the application's Git URL or path.")


def _existing(path: Path) -> Path:
    return next(place for place in (path, *path.parents) if place.exists())


def _is_loopback(address: str) -> bool:
    try:
        return ip_address(address).is_loopback
    except ValueError:
        return False


def _listening(port: int) -> list[str]:
    """The addresses on which this machine listens at a port, as the kernel tells them (each 32-bit word in the machine's byte order)."""
    found = set()
    for table in (Path("/proc/net/tcp"), Path("/proc/net/tcp6")):
        for line in table.read_text().splitlines()[1:] if table.exists() else []:
            fields = line.split()
            host, _, number = fields[1].partition(":")
            if fields[3] == "0A" and int(number, 16) == port:
                raw = b"".join(bytes.fromhex(host[i : i + 8])[::-1] for i in range(0, len(host), 8))
                found.add(str(IPv4Address(raw) if len(raw) == 4 else IPv6Address(raw)))
    return sorted(found)
