"""One image per service, side by side, from the commit's files and nothing else."""

import contextlib
import logging
import os
import re
import shutil
import subprocess
import time
import uuid
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import timedelta
from functools import cache, partial
from pathlib import Path
from typing import Protocol

import docker
from docker.errors import APIError, BuildError, DockerException

from delivery.application import Application, Service
from delivery.errors import DeliveryError, InvalidSettings, TransientError
from delivery.release import release_id
from delivery.source import Semver, Source
from tasks.findings import tells_of_the_network
from tasks.retry import NETWORK, retried
from tasks.shell import Redaction, ToolResult, run_tool, tool_environment
from tasks.side_by_side import first_failure, side_by_side
from tasks.source import export

log = logging.getLogger("greenroom.build")
tool_log = logging.getLogger("greenroom.tool")

LONGEST_BUILD = timedelta(minutes=30)
LAST_LINES = 12
# Where Debian puts its docker: a newer command line without its build plugin may stand before it in PATH.
DEBIAN_DOCKER = "/usr/bin/docker"
# BuildKit's bookkeeping: it stays in the log file, and what the build's own commands say is shown.
_BOOKKEEPING = re.compile(r"#\d+ (?:sha256:|DONE|CACHED|\[internal\]|transferring|exporting|writing|naming|sending|\.\.\.)|\s*$")
_ENGINE_SETTINGS = ("DOCKER_HOST", "DOCKER_TLS_VERIFY", "DOCKER_CERT_PATH", "DOCKER_CONTEXT", "DOCKER_CONFIG")


@dataclass(frozen=True)
class Recipe:
    """Everything that one image is made from. No secret is among the arguments: they stay readable in the image."""

    service: str
    tag: str
    context: Path
    dockerfile: Path
    arguments: Mapping[str, str]
    labels: Mapping[str, str]
    extra_ca: Path | None = None


class Builder(Protocol):
    """Something that makes an image from a recipe and tells how that went; a failing build is a value."""

    @property
    def title(self) -> str: ...

    def build(self, recipe: Recipe, log_file: Path) -> ToolResult: ...


def build_images(
    source: Source,
    application: Application,
    version: Semver,
    *,
    work_dir: Path,
    base_images: Mapping[str, str] | None = None,
    extra_ca: Path | None = None,
) -> Mapping[str, str]:
    """Builds the image of every service side by side and returns each service's local image name.

    `base_images` maps the references in `[bases]` to images of this installation. `extra_ca` reaches the build as the BuildKit secret
    `ca`. The images carry the commit's time, so that the same commit gives the same image. Raises `DeliveryError` naming the service
    whose build failed, with its last lines.
    """
    builder = choose_builder()
    log.info("building %s by %s", ", ".join(service.name for service in application.service), builder.title)
    with _exported(source, work_dir) as files:
        recipes = [
            recipe_of(service, source, application, version, files=files, base_images=base_images or {}, extra_ca=extra_ca)
            for service in application.service
        ]
        logs = work_dir / "logs" / str(source.sha)
        acts = [partial(build_image, recipe.service, recipe, builder, logs / f"build-{recipe.service}.log") for recipe in recipes]
        return dict(first_failure(side_by_side(acts, at_once=os.cpu_count() or 1)))


@retried(NETWORK, name="build", run_name="build {service}")
def build_image(service: str, recipe: Recipe, builder: Builder, log_file: Path) -> tuple[str, str]:
    """Builds one image and returns the service with the image's local name. Repeated, it costs what the builder's cache leaves over."""
    log_file.parent.mkdir(parents=True, exist_ok=True)
    log_file.unlink(missing_ok=True)
    result = builder.build(recipe, log_file)
    if not result.succeeded:
        kind = TransientError if tells_of_the_network(result.tail) else DeliveryError
        lines = [line for line in result.tail if line.strip()][-LAST_LINES:]
        raise kind(f"The image of {service} was not built:" + "".join(f"\n  {line[:300]}" for line in lines), next=f"see {log_file}.")
    log.info("built %s in %.1f s", recipe.tag, result.seconds)
    return service, recipe.tag


def recipe_of(
    service: Service,
    source: Source,
    application: Application,
    version: Semver,
    *,
    files: Path,
    base_images: Mapping[str, str],
    extra_ca: Path | None = None,
) -> Recipe:
    """What the image of `service` is made from. Raises `InvalidSettings` when the commit has no such context or Dockerfile."""
    context, dockerfile = files / service.context, files / service.dockerfile
    if not context.is_dir() or not dockerfile.is_file():
        missing = service.context if not context.is_dir() else service.dockerfile
        raise InvalidSettings(
            f"service {service.name}: {missing!r} is not in commit {source.sha.short}.", next="correct greenroom.toml, or commit the file."
        )
    for path, found in ((service.context, context), (service.dockerfile, dockerfile)):
        if not found.resolve().is_relative_to(files.resolve()):
            raise InvalidSettings(
                f"service {service.name}: {path!r} leads out of the repository.",
                next="correct greenroom.toml, or commit a file, not a link.",
            )
    created = source.committed_at.strftime("%Y-%m-%dT%H:%M:%SZ")
    title = f"{application.name}-{service.name}"
    labels = {"version": str(version), "revision": str(source.sha), "created": created, "title": title}
    if re.match(r"https?://|ssh://|[\w.-]+@", source.repository):
        labels["source"] = Redaction(())(source.repository)
    return Recipe(
        service=service.name,
        tag=f"greenroom.local/{title}:{release_id(version, source.sha)}",
        context=context,
        dockerfile=dockerfile,
        arguments={
            **{argument: base_images.get(upstream, upstream) for argument, upstream in application.bases.items()},
            "VERSION": str(version),
            "COMMIT": str(source.sha),
            "CREATED": created,
        },
        labels={f"org.opencontainers.image.{key}": value for key, value in labels.items()},
        extra_ca=extra_ca,
    )


@cache
def choose_builder() -> Builder:
    """BuildKit through the first docker command line that can drive it, else the engine's classic builder."""
    folders = os.environ.get("PATH", os.defpath).split(os.pathsep)
    candidates = [found for folder in folders if (found := shutil.which("docker", path=folder))]
    for program in dict.fromkeys([*candidates, DEBIAN_DOCKER]):
        client = _asked(program, "version", "--format", "{{.Client.Version}}")
        if client is None:
            continue
        if _asked(program, "buildx", "version") is not None:
            return BuildKit(program, ("buildx", "build", "--load"))
        if _major(client) < 23:
            return BuildKit(program, ("build",))
    return ClassicBuilder()


@dataclass(frozen=True)
class BuildKit:
    """BuildKit, driven through a docker command line, since the engine's API offers it to nobody else."""

    program: str
    words: tuple[str, ...]

    @property
    def title(self) -> str:
        return f"BuildKit ({self.program})"

    def build(self, recipe: Recipe, log_file: Path) -> ToolResult:
        options = ["--progress", "plain", "--file", str(recipe.dockerfile), "--tag", recipe.tag]
        for name, value in recipe.arguments.items():
            options += ["--build-arg", f"{name}={value}"]
        for name, value in recipe.labels.items():
            options += ["--label", f"{name}={value}"]
        if recipe.extra_ca is not None:
            options += ["--secret", f"id=ca,src={recipe.extra_ca}"]
        return run_tool(
            [self.program, *self.words, *options, str(recipe.context)],
            directory=recipe.context,
            environment=_engine_environment(),
            timeout=LONGEST_BUILD,
            log_file=log_file,
            label=f"build {recipe.service}",
            hide=_BOOKKEEPING,
        )


@dataclass(frozen=True)
class ClassicBuilder:
    """The engine's own builder, for machines without a fitting docker command line. It knows no secrets and no cache mounts."""

    @property
    def title(self) -> str:
        return "the engine's classic builder"

    def build(self, recipe: Recipe, log_file: Path) -> ToolResult:
        lines: list[str] = []
        failed = False
        began = time.monotonic()
        with _engine() as engine, log_file.open("a", encoding="utf-8") as file:
            dockerfile = os.path.relpath(recipe.dockerfile, recipe.context)
            if dockerfile.startswith(".."):  # this builder looks into the context only, which is our own export
                shutil.copyfile(recipe.dockerfile, recipe.context / f".greenroom-{recipe.service}.Dockerfile")
                dockerfile = f".greenroom-{recipe.service}.Dockerfile"
            stream = engine.api.build(
                path=str(recipe.context),
                dockerfile=dockerfile,
                tag=recipe.tag,
                buildargs=dict(recipe.arguments),
                labels=dict(recipe.labels),
                rm=True,
                decode=True,
            )
            redact = Redaction(())
            for event in stream:
                text = redact(str(event.get("error") or event.get("stream") or event.get("status") or "")).rstrip()
                failed = failed or "error" in event
                if text:
                    file.write(text + "\n")
                    lines.append(text)
                    tool_log.info("build %s | %s", recipe.service, text)
        return ToolResult(int(failed), time.monotonic() - began, tuple(lines[-200:]))


@contextlib.contextmanager
def _exported(source: Source, work_dir: Path) -> Iterator[Path]:
    folder = work_dir / "builds" / f"{source.sha.short}-{uuid.uuid4().hex[:8]}"
    try:
        export(source, folder)
        yield folder
    finally:
        shutil.rmtree(folder, ignore_errors=True)


@contextlib.contextmanager
def _engine() -> Iterator[docker.DockerClient]:
    try:
        client = docker.from_env(timeout=int(LONGEST_BUILD.total_seconds()))
    except DockerException as error:
        raise DeliveryError("No Docker engine answers.", next="start it (`make setup` does), then start again.") from error
    try:
        yield client
    except (APIError, BuildError) as error:
        raise DeliveryError(f"The engine refused: {Redaction(())(str(error))[:300]}", next="correct what it names.") from None
    finally:
        client.close()


def _engine_environment() -> dict[str, str]:
    settings = {name: os.environ[name] for name in _ENGINE_SETTINGS if name in os.environ}
    return tool_environment({**settings, "DOCKER_BUILDKIT": "1"})


def _asked(program: str, *words: str) -> str | None:
    """A program's answer to a question, or None when it cannot."""
    try:
        answer = subprocess.run([program, *words], env=_engine_environment(), capture_output=True, text=True, timeout=20, check=False)
    except (OSError, subprocess.TimeoutExpired):
        return None
    return answer.stdout.strip() if answer.returncode == 0 else None


def _major(version: str) -> int:
    found = re.match(r"\d+", version)
    return int(found[0]) if found else 0


_builders: Sequence[type[Builder]] = (BuildKit, ClassicBuilder)
