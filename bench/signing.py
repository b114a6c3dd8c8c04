"""What signed releases cost: `python -m bench.signing --times 50`. A key, a registry on loopback, a release of three images, a journal.

The last line is one JSON object:

* sign_ms: signing one image's provenance and putting it beside the image, once per image and release;
* verify_journal_ms, verify_registry_ms: verifying a release of three images from the journal, or from the registry where the journal
  has none; twice per rollout;
* envelope_bytes: the size of one; each time is a median of `times`.
"""

import argparse
import json
import os
import statistics
import sys
import tempfile
import time
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path

from bench.images import Shelf
from blocks.journal import SqlJournal
from blocks.registry import OciRegistry
from blocks.signing import KeyFolder, SigningKey, make_key_pair
from delivery.application import Service
from delivery.image import ImageRef
from delivery.provenance import Build, ProvenancePolicy, provenance_of
from delivery.release import Release, release_id
from delivery.source import Semver, Sha, Source
from deployments.processes import free_ports
from deployments.stage import Registry
from tasks.sign import sign_and_attach
from tasks.trust import require_proven

SERVICES = ("api", "web", "worker")
NOW, SHA, VERSION = datetime(2026, 7, 1, 10, tzinfo=UTC), Sha("a" * 40), Semver(1, 0, 0)
SOURCE = Source("https://example.org/shop.git", SHA, "/nowhere", "Ann", NOW, on_main=True, last_tag=None, commits_since_tag=1)
BUILD = Build("urn:greenroom:builder", "urn:uuid:7", NOW, NOW, "main")
POLICY = ProvenancePolicy(repository=SOURCE.repository, builder=BUILD.builder, branch="main")


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--times", type=int, default=50)
    asked = parser.parse_args()
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        server = Registry(folder, free_ports(["registry"])["registry"])
        server.start()
        try:
            found = measured(folder, server.address, asked.times)
        finally:
            server.stop()
    print(json.dumps({**found, "times": asked.times, "load_average": [round(load, 2) for load in os.getloadavg()], "cpus": os.cpu_count()}))
    return 0


def measured(folder: Path, host: str, times: int) -> dict[str, float]:
    make_key_pair(folder / "signing.key", folder / "keys" / "release.pub")
    signer, keys = SigningKey(file=folder / "signing.key"), KeyFolder(folder / "keys")
    registry, journal = OciRegistry(host=host, insecure=True), SqlJournal(f"sqlite:///{folder / 'journal.db'}")
    journal.migrate()
    images = {name: _image(host, name) for name in SERVICES}
    services = tuple(Service(name, "worker", ".", "Dockerfile", ready=("true",)) for name in SERVICES)
    release = Release(release_id(VERSION, SHA), "shop", VERSION, SHA, "Ann", NOW, services, images)
    journal.save_release(release)
    envelopes: list[bytes] = []

    def sign() -> None:
        for service in services:
            statement = provenance_of(images[service.name], service, VERSION, SOURCE, BUILD)
            envelopes.append(sign_and_attach(statement, images[service.name], signer, registry))

    def verify() -> None:
        require_proven(release, POLICY, store=journal, keys=keys, registry=registry)

    found = {"sign_ms": _median_ms(sign, times) / len(SERVICES), "verify_registry_ms": _median_ms(verify, times)}
    for envelope in envelopes[: len(SERVICES)]:
        journal.keep_envelope(release.id, envelope)
    found |= {"verify_journal_ms": _median_ms(verify, times), "envelope_bytes": float(len(envelopes[0]))}
    journal.close()
    return {name: round(value, 2) for name, value in found.items()}


def _image(host: str, service: str) -> ImageRef:
    repository = f"shop-{service}"
    return ImageRef(host, repository, str(Shelf(host, repository).image(f"the only layer of {service}", "v1.0.0")["digest"]))


def _median_ms(act: Callable[[], None], times: int) -> float:
    taken = []
    for _ in range(times):
        began = time.perf_counter()
        act()
        taken.append(time.perf_counter() - began)
    return 1000 * statistics.median(taken)


if __name__ == "__main__":
    sys.exit(main())
