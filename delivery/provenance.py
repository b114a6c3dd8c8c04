"""Where an image comes from: SLSA provenance v1 of what was built, and what an environment wants it to say
(https://slsa.dev/spec/v1.2/provenance).
"""

import re
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from delivery.application import STRICT, Service
from delivery.image import ImageRef
from delivery.release import Release
from delivery.source import Semver, Source
from delivery.statement import Statement, Subject

PROVENANCE_V1 = "https://slsa.dev/provenance/v1"
BUILD_TYPE = "urn:greenroom:build:dockerfile:v1"
_LOGIN = re.compile(r"(?<=://)[^/@]*@")
_KEY_FILE = re.compile(r"[A-Za-z0-9][A-Za-z0-9_.-]{0,99}")


@dataclass(frozen=True)
class ProvenancePolicy:
    """Nothing runs here whose images were not signed by one of `keys` (files in the installation's folder of keys) as built from
    `repository` by `builder` out of `branch`. An empty repository or builder means the installation's own, an empty branch any.
    """

    __pydantic_config__ = STRICT

    required: bool = True
    keys: tuple[str, ...] = ("release.pub",)
    repository: str = ""
    builder: str = ""
    branch: str = ""

    def problems(self) -> tuple[str, ...]:
        """Everything that cannot be meant, as sentences `key: got …, expected …`."""
        found = [
            f"provenance.keys: got {name[:80]!r}, expected the name of a file, without folders"
            for name in self.keys
            if not is_key_file(name)
        ]
        if self.required and not self.keys:
            found.append("provenance.keys: got an empty list, expected one key or more (or required = false)")
        return tuple(found)


@dataclass(frozen=True)
class Material:
    """Something that went into a build. `digest` has one algorithm and its value; empty when nobody could tell."""

    uri: str
    digest: Mapping[str, str]

    def document(self) -> dict[str, Any]:
        return {"uri": self.uri, "digest": dict(self.digest)} if self.digest else {"uri": self.uri}


@dataclass(frozen=True)
class Build:
    """One run of the pipeline that built images. `invocation` names it; `main_branch` is what `Source.on_main` speaks of."""

    builder: str
    invocation: str
    started: datetime
    finished: datetime
    main_branch: str
    bases: tuple[Material, ...] = ()


def provenance_of(image: ImageRef, service: Service, version: Semver, source: Source, build: Build) -> Statement:
    """What is said of the image that `build` made of `service`."""
    repository = without_login(source.repository)
    parameters = {
        "repository": repository,
        "commit": str(source.sha),
        "branch": build.main_branch if source.on_main else "",
        "version": str(version),
        "service": service.name,
        "context": service.context,
        "dockerfile": service.dockerfile,
    }
    materials = (Material(f"git+{repository}", {"gitCommit": str(source.sha)}), *build.bases)
    predicate = {
        "buildDefinition": {
            "buildType": BUILD_TYPE,
            "externalParameters": parameters,
            "resolvedDependencies": [material.document() for material in materials],
        },
        "runDetails": {
            "builder": {"id": build.builder},
            "metadata": {
                "invocationId": build.invocation,
                "startedOn": _moment(build.started),
                "finishedOn": _moment(build.finished),
            },
        },
    }
    return Statement((Subject.of(image),), PROVENANCE_V1, predicate)


def objections(statement: Statement, release: Release, service: str, policy: ProvenancePolicy) -> tuple[str, ...]:
    """What keeps a statement from proving that the release's image of `service` is what the policy wants; empty when it does prove it."""
    image = release.images[service]
    if not statement.is_about(image):
        return (f"it is about {_subjects(statement)}, not about {image.digest}",)
    if statement.predicate_type != PROVENANCE_V1:
        return (f"it is no provenance but {statement.predicate_type[:80]}",)
    definition, details = _table(statement.predicate, "buildDefinition"), _table(statement.predicate, "runDetails")
    said = _table(definition, "externalParameters")
    wanted = {
        "build type": (definition.get("buildType"), BUILD_TYPE),
        "builder": (_table(details, "builder").get("id"), policy.builder),
        "repository": (said.get("repository"), without_login(policy.repository)),
        "commit": (said.get("commit"), str(release.sha)),
        "version": (said.get("version"), str(release.version)),
        "service": (said.get("service"), service),
        **({"branch": (said.get("branch"), policy.branch)} if policy.branch else {}),
    }
    return tuple(f"{what}: got {_shown(got)}, expected {expected}" for what, (got, expected) in wanted.items() if got != expected)


def is_key_file(name: str) -> bool:
    """A file's name in the folder of keys, and never a way out of it."""
    return bool(_KEY_FILE.fullmatch(name))


def without_login(repository: str) -> str:
    """A repository's address without the name and password that may stand in it."""
    return _LOGIN.sub("", repository)


def _moment(at: datetime) -> str:
    return at.strftime("%Y-%m-%dT%H:%M:%SZ")


def _table(document: Mapping[str, Any], key: str) -> Mapping[str, Any]:
    found = document.get(key)
    return found if isinstance(found, dict) else {}


def _subjects(statement: Statement) -> str:
    return ", ".join(f"sha256:{subject.sha256}" for subject in statement.subjects)


def _shown(got: object) -> str:
    return str(got)[:120] if got else "nothing"
