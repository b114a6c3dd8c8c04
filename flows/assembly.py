"""What a flow stands on: the settings, the journal, the environment files and the blocks, opened together and closed together."""

import difflib
import logging
import os
import socket
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass
from datetime import timedelta
from typing import Any, Protocol
from uuid import UUID, uuid4

import httpx
from prefect.blocks.core import Block
from prefect.exceptions import ObjectNotFound
from pydantic import SecretStr

from blocks.git import GitCredential
from blocks.journal import SqlJournal
from blocks.keyless import KeylessSigning
from blocks.local import local_blocks, slug_of
from blocks.metrics import TraefikMetrics, WithGauges
from blocks.notifier import SlackNotifier
from blocks.prefect_events import PrefectEvents
from blocks.prometheus import PrometheusMetrics
from blocks.registry import OciRegistry
from blocks.replica_metrics import ReplicaMetrics
from blocks.secrets import EnvironmentSecrets, ToolToken, known
from blocks.settings import Settings, load_environment, settings
from blocks.signing import KeyFolder, SigningKey
from blocks.ssh import SshSignatures
from blocks.targets import TARGETS
from blocks.webhook import WebhookNotifier
from delivery.alert_news import EVENTS
from delivery.dsse import Keys, Signer
from delivery.environment import Environment
from delivery.errors import InvalidSettings, TransientError
from delivery.notices import environment_of
from delivery.ports import JournalStore, MetricSource, Notifier, PersonalSignatures, Places, Registry, Target

log = logging.getLogger("greenroom.assembly")


class Blocks(Protocol):
    """Where blocks come from: Prefect's server, or the local file when it does not run."""

    def find(self, slug: str, name: str) -> Any | None:
        """The block, or None when there is none of that type and name."""
        ...


class PrefectBlocks:
    """The blocks that `deployments.register` or a person in the UI saved in Prefect; each is asked for once."""

    def __init__(self) -> None:
        self._known: dict[tuple[str, str], Any] = {}

    def find(self, slug: str, name: str) -> Any | None:
        if (slug, name) not in self._known:
            self._known[slug, name] = self._load(slug, name)
        return self._known[slug, name]

    @staticmethod
    def _load(slug: str, name: str) -> Any | None:
        try:
            block: Any = Block.load(f"{slug}/{name}")
            return known(block)
        except ValueError as refused:
            if isinstance(refused.__cause__, ObjectNotFound):
                return None
            raise InvalidSettings(
                f"The block {slug}/{name} in Prefect does not fit this version of Greenroom ({type(refused).__name__}).",
                next="save it again with `python -m deployments.register`.",
            ) from None
        except httpx.HTTPError as broken:
            raise TransientError(
                f"The block {slug}/{name} could not be read: Prefect's API did not answer ({type(broken).__name__}).",
                next="start the server, or go the direct way: `greenroom rollback ... --via direct`.",
            ) from None


class LocalBlocks:
    """The blocks of the local file: the way that is open when Prefect's server is gone."""

    def __init__(self, blocks: Mapping[tuple[str, str], Any]) -> None:
        self._blocks = blocks

    @classmethod
    def of(cls, installation: Settings) -> "LocalBlocks":
        return cls(local_blocks(installation))

    def find(self, slug: str, name: str) -> Any | None:
        return self._blocks.get((slug, name))


@dataclass(frozen=True)
class House:
    """Everything a flow loads before it acts. Blocks are named by the environment file: `production`, or `docker-target/production`."""

    settings: Settings
    store: JournalStore
    blocks: Blocks

    def environment(self, name: str) -> Environment:
        return load_environment(name, self.settings.environments_dir)

    def target(self, environment: Environment) -> Target:
        target: Target = self._require(TARGETS, environment.environment.target)
        return target

    def secrets(self, environment: Environment) -> EnvironmentSecrets | None:
        """What its target gives to containers; None for a target that has none of its own."""
        found: EnvironmentSecrets | None = getattr(self.target(environment), "secrets", None)
        return found

    def secret_names(self, environment: Environment) -> frozenset[str]:
        """The names of the secrets that its containers are given."""
        secrets = self.secrets(environment)
        return secrets.names() if secrets else frozenset()

    def secret_versions(self, environment: Environment) -> Mapping[str, Sequence[int]]:
        """Of each secret that is kept in versions, those that are there, oldest first."""
        secrets = self.secrets(environment)
        return secrets.versions() if secrets else {}

    def metrics(self, environment: Environment, *, also: Iterable[str] = ()) -> MetricSource | None:
        """The metric source that bears the environment's name, with the gauges that its limits name and those in `also`; None: a watch
        will be blind, and says so.
        """
        source: MetricSource | None = self._find((TraefikMetrics,), environment.name)
        prometheus: PrometheusMetrics | None = self._find((PrometheusMetrics,), environment.name)
        if source is None and prometheus and prometheus.requests:
            source = prometheus
        wanted = frozenset({*also, *(trigger.gauge for trigger in environment.trigger if trigger.gauge)})
        if source is None or not wanted:
            return source
        own = ReplicaMetrics(self.target(environment).addresses, wanted)
        return WithGauges(source, [own, prometheus] if prometheus else [own])

    def registry(self) -> Registry:
        registry: Registry = self._require((OciRegistry,), self.settings.registry)
        return registry

    def known_registry(self) -> Registry | None:
        """None where there is no block: then only what the journal keeps can prove anything."""
        registry: Registry | None = self._find((OciRegistry,), self.settings.registry)
        return registry

    def notifier(self, environment: Environment, *, places: Places | None = None) -> Notifier | None:
        """None where the environment names none. What it posts is remembered in the journal, or in `places`."""
        name = environment.environment.notifier
        if name is None:
            return None
        notifier = self._require((SlackNotifier, WebhookNotifier), name)
        if isinstance(notifier, SlackNotifier):
            notifier = notifier.model_copy()  # others use the same block at the same time
            notifier.remember_in(places or self.store)
        told: Notifier = notifier
        return told

    def notifier_for(self, notice_key: str) -> Notifier | None:
        """The notifier of the environment that a notice is about: its key begins with the environment's name, or with the events'."""
        if environment_of(notice_key) == EVENTS:
            return PrefectEvents()
        try:
            return self.notifier(self.environment(environment_of(notice_key)))
        except InvalidSettings as missing:
            log.warning("Notice %s is only logged: %s", notice_key, missing)
            return None

    def read_credential(self) -> SecretStr | None:
        """What reads the application's repository; None for one that needs nothing."""
        credential: GitCredential | None = self._find((GitCredential,), "default")
        return credential.reveal() if credential else None

    def tool_tokens(self, names: Iterable[str]) -> Mapping[str, Mapping[str, SecretStr]]:
        """The variables of each of these tool-token blocks; one that is not there is left out."""
        found: dict[str, ToolToken | None] = {name: self._find((ToolToken,), name) for name in names}
        return {name: token.reveal() for name, token in found.items() if token is not None}

    def signer(self) -> Signer | None:
        """What signs releases here: who we are, where that can be shown, else the key; None for an installation that has neither."""
        keyless: KeylessSigning | None = self._find((KeylessSigning,), "default")
        if keyless is not None and keyless.has_token():
            return keyless
        signer: Signer | None = self._find((SigningKey,), "default")
        return signer

    def keys(self) -> Keys:
        return KeyFolder(self.settings.keys_dir)

    def people(self) -> PersonalSignatures:
        return SshSignatures(self.settings.keys_dir)

    @property
    def lease_ttl(self) -> timedelta:
        return timedelta(seconds=self.settings.lease_ttl_seconds)

    def run_link(self, run_id: str) -> str:
        return f"{self.settings.ui_url.rstrip('/')}/runs/flow-run/{run_id}"

    def artifact_link(self, artifact: UUID) -> str:
        return f"{self.settings.ui_url.rstrip('/')}/artifacts/artifact/{artifact}"

    def _find(self, kinds: Sequence[type[Block]], reference: str) -> Any | None:
        wanted, _, name = reference.rpartition("/")
        slugs = [slug for kind in kinds if (slug := slug_of(kind)) == wanted or not wanted]
        return next((block for slug in slugs if (block := self.blocks.find(slug, name)) is not None), None)

    def _require(self, kinds: Sequence[type[Block]], reference: str) -> Any:
        block = self._find(kinds, reference)
        if block is None:
            slugs = [slug_of(kind) for kind in kinds]
            close = difflib.get_close_matches(reference.rpartition("/")[0], slugs, n=1)
            hint = f" Did you mean {close[0]}/{reference.rpartition('/')[2]}?" if close and close[0] not in reference else ""
            raise InvalidSettings(
                f"There is no block {reference!r}, expected one of type {' or '.join(slugs)}.{hint}",
                next="write it into the blocks file and run `python -m deployments.register`, or correct its name.",
            )
        return block


_source: ContextVar[Blocks | None] = ContextVar("source of blocks", default=None)


@contextmanager
def blocks_from(blocks: Blocks) -> Iterator[None]:
    """Inside, houses are opened with these blocks instead of Prefect's: for the command line without a server, and for tests."""
    before = _source.set(blocks)
    try:
        yield
    finally:
        _source.reset(before)


@contextmanager
def open_house() -> Iterator[House]:
    """The house with its journal migrated. Raises `DeliveryError`, in one sentence, when a part of it is missing."""
    installation = settings()
    store = SqlJournal(installation.database_url)
    try:
        store.migrate()
        yield House(installation, store, _source.get() or PrefectBlocks())
    finally:
        store.close()


def holder() -> str:
    """Who holds a lease: unique per walk, and readable for the one who finds the environment busy."""
    return f"{socket.gethostname()}:{os.getpid()}:{uuid4().hex[:8]}"


def require_git_repository(installation: Settings) -> str:
    if not installation.repository:
        raise InvalidSettings("No repository is set.", next="set GREENROOM_REPOSITORY to the application's Git URL or path.")
    return installation.repository
