"""The protocols between what decides and what acts. A flow loads a block and hands it to a task as one of these."""

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from pathlib import Path
from typing import Protocol, runtime_checkable

from delivery.approval import Approval, PromotionRequest
from delivery.backup import Noted, RestoreTest
from delivery.calibration import Calibration
from delivery.dora_facts import Story
from delivery.durations import Size
from delivery.environment import Capability, Standing
from delivery.health import Counters, HealthReport
from delivery.image import ImageConfiguration, ImageRef
from delivery.journal import Entry, EventLog
from delivery.plan import Plan
from delivery.record import IncidentFact, Lease, RolloutRecord
from delivery.release import Release
from delivery.retention import Manifest
from delivery.rotation import Login
from delivery.source import Semver, Sha
from delivery.verification import Hold, Verification


@dataclass(frozen=True)
class Token:
    """The fencing token that every changing verb carries; a target refuses one that is lower than the highest it has seen."""

    environment: str
    rollout: str
    fence: int


@dataclass(frozen=True)
class Address:
    """Where one replica of one service can be reached without users: `http://host:port`."""

    service: str
    replica: str
    url: str


@dataclass(frozen=True)
class RunResult:
    """A one-off command's exit status and the last lines of its output (redacted)."""

    exit_code: int
    tail: tuple[str, ...]

    @property
    def succeeded(self) -> bool:
        return self.exit_code == 0


class Target(Protocol):
    """A place that runs releases. Every verb states a level, never a change, and may be repeated from any half-done state.

    Verbs raise `TransientError` for what may be tried again, `StaleFence` for a token that is too low, else `DeliveryError`.
    """

    @property
    def capabilities(self) -> frozenset[Capability]: ...

    @property
    def public_url(self) -> str | None:
        """Where users reach what runs here, for load tests and public probes; None when nothing stands in front."""
        ...

    def observe(self) -> Standing:
        """Who gets which share and whose replicas are up, read from the platform, not from memory."""
        ...

    def prepare(self, release: Release, token: Token) -> None:
        """The release's images are there, pulled by digest, and there is room to run them."""
        ...

    def run_once(
        self,
        release: Release,
        service: str,
        command: Sequence[str],
        *,
        variables: Mapping[str, str],
        timeout: timedelta,
        token: Token,
    ) -> RunResult:
        """Runs a command in a new container of the service's image and removes it afterwards. A failing command is a value."""
        ...

    def launch(self, release: Release, *, variables: Mapping[str, str], token: Token) -> None:
        """All replicas of all web services are up and have no users; workers exist and take no jobs yet."""
        ...

    def check(self, release: Release, patterns: Sequence[str] = ()) -> HealthReport:
        """Replicas, restarts, CPU, memory, the version that answers, and new log lines that contain one of `patterns`."""
        ...

    def addresses(self, release: Release) -> Sequence[Address]:
        """Each web replica's private address."""
        ...

    def shift(self, release: Release, *, percent: int, rest: Release | None, token: Token) -> None:
        """`release` gets `percent` of the requests and `rest` the others, confirmed by the traffic layer. A release with a share has
        its workers running; one with 0 that is not live has them stopped after finishing their jobs.
        """
        ...

    def promote(self, release: Release, token: Token) -> None:
        """`release` gets every request and is known to the platform as the live one."""
        ...

    def drain(self, release: Release, token: Token) -> None:
        """In-flight requests are answered, workers have finished and left; web replicas stay up, warm."""
        ...

    def retire(self, release: Release, *, keep_remains: bool, token: Token) -> None:
        """Its replicas are stopped in order, and removed unless the remains are kept for a post-mortem. Refuses a release with a share."""
        ...

    def collect_logs(self, release: Release, folder: Path) -> Sequence[Path]:
        """Each replica's logs as one file in `folder`, redacted and bounded."""
        ...


@runtime_checkable
class Mendable(Protocol):
    """A target whose own files somebody may have broken."""

    def repair(self) -> bool:
        """Puts back what is missing or broken and tells whether it had to. Cheap, needs no token, and never moves a user."""
        ...


@runtime_checkable
class Copying(Protocol):
    """A target that can try releases on a copy of its database, where no user reaches them. Each verb may be repeated."""

    def copy_database(self, release: Release, *, variables: Mapping[str, str], timeout: timedelta, token: Token) -> str:
        """A copy of what `release`'s migrations would change, as it is now; its name."""
        ...

    def run_on_copy(
        self,
        release: Release,
        service: str,
        command: Sequence[str],
        *,
        copy: str,
        variables: Mapping[str, str],
        timeout: timedelta,
        token: Token,
    ) -> RunResult:
        """As `run_once`, against the copy."""
        ...

    def launch_on_copy(self, release: Release, *, copy: str, variables: Mapping[str, str], token: Token) -> Sequence[Address]:
        """One replica of each web service, well, against the copy. Workers take no jobs here."""
        ...

    def ask_copy(
        self, release: Release, question: str, *, copy: str, variables: Mapping[str, str], timeout: timedelta, token: Token
    ) -> str:
        """The one value that a query of the copy gives, as a text of one line."""
        ...

    def files_of(
        self, release: Release, service: str, wanted: Callable[[str, str], bool], *, token: Token
    ) -> Iterator[tuple[str, bytes | None]]:
        """The files of a service's image that are wanted, by path without the first slash and the image's working directory, with their
        content; None for one that cannot be read. Nothing of the image runs.
        """
        ...

    def drop_copy(self, release: Release, copy: str, *, variables: Mapping[str, str], token: Token) -> None:
        """The copy and everything that runs against one are gone."""
        ...

    def sweep_copies(self, release: Release, *, variables: Mapping[str, str], token: Token) -> None:
        """What earlier rehearsals could not take away is gone."""
        ...


@runtime_checkable
class BackingUp(Protocol):
    """A target that can keep its database as it is, and try what was kept. Each verb may be repeated."""

    def dump_database(
        self, release: Release, take: Callable[[bytes], object], *, variables: Mapping[str, str], timeout: timedelta, token: Token
    ) -> Noted:
        """Everything that `release`'s migrations could change, piece by piece to `take`; what it held. Changes nothing."""
        ...

    def try_dump(self, release: Release, pieces: Iterable[bytes], size: int, *, variables: Mapping[str, str], timeout: timedelta) -> Noted:
        """What a dump of `size` bytes brings back, in a database of its own that is gone afterwards."""
        ...

    def copies_left(self, release: Release, *, variables: Mapping[str, str]) -> Sequence[str]:
        """Copies beside its database that no living run can still be using."""
        ...

    def drop_left(self, release: Release, copy: str, *, variables: Mapping[str, str]) -> None:
        """Idempotent."""
        ...


@runtime_checkable
class Counting(Protocol):
    """A target that can say how large its tables are."""

    def table_sizes(self, release: Release, *, variables: Mapping[str, str]) -> Mapping[str, Size]:
        """By name, with the schema where it is not `public`. Changes nothing, and asks nothing that takes long."""
        ...


@runtime_checkable
class LettingIn(Protocol):
    """A target that can try what a version of its database's secret is worth."""

    def login_of(self, release: Release, *, variables: Mapping[str, str]) -> Login | None:
        """What the database says to the version that `release` runs with; None when it refuses it. Changes nothing."""
        ...


class MetricSource(Protocol):
    """Counters of requests per release since they began; a release nobody knows yet is absent. Raises `TransientError` when unreachable."""

    def scrape(self, releases: Iterable[Release]) -> Mapping[str, Counters]: ...

    def gauges_of(self, release: Release) -> Mapping[str, float]:
        """What else is measured now, by the names that limits call it; what is not known is absent."""
        ...


@dataclass(frozen=True)
class RegistryAccess:
    """What another program needs to read images; it goes into that program's environment, never into its arguments."""

    host: str
    username: str = ""
    password: str = field(default="", repr=False)
    insecure: bool = False


class Registry(Protocol):
    """An OCI registry. `push` gives an image all its names and resolves it to its digest once."""

    def push(self, local: str, *, repository: str, tags: Sequence[str]) -> ImageRef: ...
    def tag(self, image: ImageRef, tags: Sequence[str]) -> None: ...
    def is_ready(self) -> None: ...
    def stored(self, repository: str) -> Sequence[Manifest]:
        """What lies in `repository` under a name, what that lists, and what describes it; nothing where there is no such repository."""
        ...

    def remove(self, repository: str, digest: str) -> None:
        """Idempotent. Raises `DeliveryError` when the registry does not allow deleting."""
        ...

    def attach(self, image: ImageRef, envelope: bytes, *, predicate_type: str) -> None:
        """Puts a signed envelope beside an image, where other tools find it too. May be repeated."""
        ...

    def attached(self, image: ImageRef) -> Sequence[bytes]:
        """The signed envelopes beside an image, by whomever; nothing of them is verified."""
        ...

    def attach_document(self, image: ImageRef, document: bytes, *, kind: str) -> None:
        """Puts a document, for instance a bill of materials, beside an image; `kind` is its media type. May be repeated."""
        ...

    def documents(self, image: ImageRef, kind: str) -> Sequence[bytes]:
        """The documents of a kind beside an image, by whomever; what they are worth their signed digest tells."""
        ...

    def configurations(self, image: ImageRef) -> Sequence[ImageConfiguration]:
        """How an image says that it is to be run, one per platform; read by digest, and believed only where digests fit."""
        ...

    def access(self) -> RegistryAccess: ...


class PersonalSignatures(Protocol):
    """Whose signature is it? `allowed_signers` names a file of people and their keys."""

    def signer_of(self, message: bytes, signature: str, allowed_signers: str) -> str | None: ...


class Notifier(Protocol):
    """Tells people. `post` is idempotent per key: the same key updates the same message. It may raise; callers never let that matter."""

    def post(self, key: str, text: str, *, link: str | None = None) -> None: ...


class Places(Protocol):
    """Where people see the message of a key, in the words of the service that shows it; it outlives the process that posted it."""

    def place_of(self, key: str) -> str | None: ...
    def keep_place(self, key: str, place: str) -> None: ...


class JournalStore(Protocol):
    """The journal database. All times are the database's clock."""

    def now(self) -> datetime: ...

    # releases
    def save_release(self, release: Release) -> None:
        """Idempotent. Refuses another commit under a version that is already released."""
        ...

    def release(self, release_id: str) -> Release: ...
    def release_of(self, version: Semver) -> Release: ...
    def release_of_commit(self, sha: Sha, version: Semver) -> Release | None: ...
    def releases(self) -> Sequence[Release]:
        """All of them, the newest first."""
        ...

    # what was signed about releases
    def keep_envelope(self, release_id: str, envelope: bytes) -> None:
        """Idempotent. Whoever reads it verifies it: the journal only keeps it."""
        ...

    def envelopes(self, release_id: str) -> Sequence[bytes]:
        """Everything that was kept about a release, oldest first."""
        ...

    # the environment's lease
    def acquire(self, environment: str, *, holder: str, purpose: str, ttl: timedelta) -> Lease:
        """Raises `EnvironmentBusy` in less than a second when somebody else holds it; raises the fence by one otherwise."""
        ...

    def renew(self, lease: Lease, *, ttl: timedelta) -> Lease:
        """Raises `StaleFence` when the lease went to somebody else."""
        ...

    def give_up(self, lease: Lease) -> None:
        """Idempotent; a lease that went to somebody else stays theirs."""
        ...

    def leases(self) -> Sequence[Lease]: ...

    # rollouts
    def open_rollout(self, lease: Lease, plan: Plan, *, by: str) -> str:
        """Writes the opening entry and returns the rollout's id (`production-7`). Idempotent per promotion request: asked again for a
        request whose rollout is already there, it returns that one's id. Refuses when another rollout of the environment is open.
        """
        ...

    def log_of(self, rollout: str, lease: Lease | None = None) -> EventLog:
        """For walking, with the lease whose fence each append must carry; for reading, without."""
        ...

    def entries(self, rollout: str) -> Sequence[Entry]: ...
    def rollout(self, rollout: str) -> RolloutRecord: ...
    def rollouts(self, *, environment: str | None = None, open_only: bool = False, limit: int = 50) -> Sequence[RolloutRecord]:
        """Newest first."""
        ...

    def live(self, environment: str) -> Release | None:
        """What the newest promotion brought; None before the first."""
        ...

    def previous(self, environment: str) -> Release | None:
        """What was live before the live one; where a rollback without a version goes."""
        ...

    def lived(self, environment: str, *, newest: int) -> Sequence[Release]:
        """The live one first, then those before it in the order in which they can be gone back through, each with the versions of secrets
        that it was brought with.
        """
        ...

    def verify_chain(self, rollout: str) -> None:
        """Raises `DeliveryError` naming the first entry whose hash does not fit."""
        ...

    # promotion requests
    def open_request(self, plan: Plan, *, key: str, expires_at: datetime) -> PromotionRequest:
        """Idempotent per key (the flow run's id). Open requests of the same environment and release are closed as superseded."""
        ...

    def request(self, number: int) -> PromotionRequest: ...
    def requests(self, *, environment: str | None = None, open_only: bool = False) -> Sequence[PromotionRequest]: ...
    def decide(self, number: int, approval: Approval) -> PromotionRequest:
        """Adds one person's word; a person's second word on the same request replaces nothing and is refused."""
        ...

    def close_request(self, number: int, reason: str) -> None: ...

    # notices that wait to be sent (how keys are read: `delivery/notices.py`)
    def put_notice(self, key: str, text: str, link: str | None, *, once: bool = False) -> None:
        """The same key again replaces the text, which is then sent again; with `once` it changes nothing."""
        ...

    def put_together(self, *put_now: tuple[str, str, str | None]) -> bool:
        """Puts all of these notices (key, text, link), all or nothing; False, and nothing is written, when the first one's key is known."""
        ...

    def known_notices(self, keys: Sequence[str]) -> frozenset[str]:
        """Which of these keys have a notice, sent or not."""
        ...

    def unsent_notices(self, limit: int = 50, *, environment: str | None = None) -> Sequence[tuple[int, str, str, str | None]]: ...
    def mark_sent(self, notice: int) -> None: ...
    def outboxes(self) -> Sequence[str]:
        """The environments that have unsent notices."""
        ...

    def take_outbox(self, environment: str, *, holder: str, ttl: timedelta) -> bool:
        """The right to send an environment's notices, also renewed so. False: somebody else sends, or it is too early to try again."""
        ...

    def leave_outbox(self, environment: str, *, holder: str, failed: bool = False, pause: timedelta = timedelta()) -> None:
        """Idempotent. After a failure nobody may take it for `pause`, nor for a time that grows with failures in a row."""
        ...

    def place_of(self, key: str) -> str | None: ...
    def keep_place(self, key: str, place: str) -> None: ...

    # verifications and holds
    def last_verification(self, environment: str) -> Verification | None: ...
    def telling_verifications(self, environment: str, limit: int = 50) -> Sequence[Verification]:
        """The newest of those that led to something, newest first."""
        ...

    def add_verification(self, verification: Verification, *, key: str) -> bool:
        """Writes it, and a hold with it when its deed is to go back, all or nothing, at the database's time. False: somebody else has
        written that number, or a later one; theirs counts. Idempotent per key, which is the look's own.
        """
        ...

    def hold_on(self, environment: str) -> Hold | None:
        """What holds promotions to the environment; None when nothing does."""
        ...

    def let_go_on(self, environment: str, *, by: str, reason: str) -> Hold | None:
        """Ends the hold on a person's word and returns what was ended; None, and nothing is written, when there was none."""
        ...

    # what the delivery metrics count
    def stories(self, environment: str | None = None) -> Sequence[Story]:
        """Every rollout, oldest first."""
        ...

    def open_incident(
        self,
        environment: str,
        *,
        text: str,
        by: str,
        detected_at: datetime | None = None,
        impact_started_at: datetime | None = None,
        rollout: str | None = None,
        key: str | None = None,
    ) -> IncidentFact:
        """Idempotent per key. Without `detected_at` it was noticed now."""
        ...

    def close_incident(self, incident: int, *, by: str, restored_at: datetime | None = None, text: str = "") -> IncidentFact: ...
    def attribute_incident(self, incident: int, rollout: str | None, *, by: str, text: str = "") -> IncidentFact:
        """Blames it on a rollout, or on none; the newest word counts."""
        ...

    def incident_facts(self, environment: str | None = None) -> Sequence[IncidentFact]:
        """Every word, in the order in which they were said."""
        ...

    # how alike two halves of the live release are
    def add_calibrations(self, calibrations: Sequence[Calibration], *, key: str) -> None:
        """Writes them all or none, at the database's time. Idempotent per key, which is the measurement's own."""
        ...

    def calibrations(self, environment: str, *, newest: timedelta) -> Sequence[Calibration]:
        """Those that are no older than `newest`, the newest first."""
        ...

    # whether backups bring everything back
    def add_restore_test(self, test: RestoreTest, *, key: str) -> None:
        """Writes it, at the database's time. Idempotent per key."""
        ...

    def restore_tests(self, environment: str) -> Sequence[RestoreTest]:
        """The newest first."""
        ...
