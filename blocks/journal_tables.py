"""The tables of the journal. A change here needs a revision in `journal_migrations/versions`; a test compares the two."""

from sqlalchemy import BigInteger, Boolean, Column, Float, ForeignKey, Integer, MetaData, String, Table, Text, UniqueConstraint

from blocks.database import UtcTime

TABLES = MetaData(
    naming_convention={
        "pk": "pk_%(table_name)s",
        "uq": "uq_%(table_name)s_%(column_0_N_name)s",
        "fk": "fk_%(table_name)s_%(column_0_name)s",
        "ix": "ix_%(table_name)s_%(column_0_N_name)s",
    }
)

releases = Table(
    "releases",
    TABLES,
    Column("id", String(120), primary_key=True),
    Column("version", String(100), nullable=False, unique=True),
    Column("sha", String(40), nullable=False),
    Column("document", Text, nullable=False),
    Column("saved_at", UtcTime, nullable=False),
)

# One row per environment, for ever: the fence lives here and only goes up.
leases = Table(
    "leases",
    TABLES,
    Column("environment", String(31), primary_key=True),
    Column("holder", Text, nullable=False),
    Column("purpose", Text, nullable=False),
    Column("fence", BigInteger, nullable=False),
    Column("since", UtcTime, nullable=False),
    Column("expires_at", UtcTime, nullable=False),
)

rollouts = Table(
    "rollouts",
    TABLES,
    Column("id", String(60), primary_key=True),
    Column("environment", String(31), nullable=False),
    Column("number", Integer, nullable=False),
    Column("release_id", String(120), ForeignKey("releases.id"), nullable=False),
    Column("blue_id", String(120), ForeignKey("releases.id"), nullable=True),
    Column("version", String(100), nullable=False),
    Column("kind", String(20), nullable=False),
    Column("by", Text, nullable=False),
    Column("request", Integer, nullable=True, unique=True),
    Column("opened_at", UtcTime, nullable=False),
    Column("promoted_at", UtcTime, nullable=True),
    Column("ended_at", UtcTime, nullable=True),
    Column("ending", String(20), nullable=True),
    Column("message", Text, nullable=True),
    UniqueConstraint("environment", "number"),
)

# Append-only. `payload` is the canonical text that the hash was taken over.
entries = Table(
    "entries",
    TABLES,
    Column("rollout", String(60), ForeignKey("rollouts.id"), primary_key=True),
    Column("sequence", Integer, primary_key=True, autoincrement=False),
    Column("at", UtcTime, nullable=False),
    Column("fence", BigInteger, nullable=False),
    Column("kind", String(20), nullable=False),
    Column("payload", Text, nullable=False),
    Column("previous", String(64), nullable=False),
    Column("hash", String(64), nullable=False),
)

requests = Table(
    "requests",
    TABLES,
    Column("number", Integer, primary_key=True),
    Column("key", String(200), nullable=False, unique=True),
    Column("environment", String(31), nullable=False),
    Column("release_id", String(120), nullable=False),
    Column("plan", Text, nullable=False),
    Column("plan_hash", String(64), nullable=False),
    Column("opened_at", UtcTime, nullable=False),
    Column("expires_at", UtcTime, nullable=False),
    Column("closed", Text, nullable=True),
    sqlite_autoincrement=True,
)

# `person_key` is the name without case and surrounding space: one person, one word per request.
approvals = Table(
    "approvals",
    TABLES,
    Column("number", Integer, primary_key=True),
    Column("request", Integer, ForeignKey("requests.number"), nullable=False),
    Column("person", Text, nullable=False),
    Column("person_key", Text, nullable=False),
    Column("decision", String(20), nullable=False),
    Column("reason", Text, nullable=False),
    Column("channel", String(40), nullable=False),
    Column("at", UtcTime, nullable=False),
    Column("signature", Text, nullable=False, server_default=""),
    UniqueConstraint("request", "person_key"),
    sqlite_autoincrement=True,
)

# Append-only, by people and monitors: a correction is another row. `incident` is the number of the row that opened it, NULL in that row
# itself; `key` is how a monitor calls the word, so that it may repeat itself.
incident_facts = Table(
    "incident_facts",
    TABLES,
    Column("number", Integer, primary_key=True),
    Column("incident", Integer, nullable=True),
    Column("kind", String(20), nullable=False),
    Column("environment", String(31), nullable=False),
    Column("at", UtcTime, nullable=False),
    Column("by", Text, nullable=False),
    Column("text", Text, nullable=False),
    Column("rollout", String(60), ForeignKey("rollouts.id"), nullable=True),
    Column("impact_started_at", UtcTime, nullable=True),
    Column("key", String(200), nullable=False, unique=True),
    Column("written_at", UtcTime, nullable=False),
    sqlite_autoincrement=True,
)

# A notice whose text changes gets a new number, so that "sent" can only ever mean the text that was sent.
notices = Table(
    "notices",
    TABLES,
    Column("number", Integer, primary_key=True),
    Column("key", String(200), nullable=False, unique=True),
    Column("text", Text, nullable=False),
    Column("link", Text, nullable=True),
    Column("put_at", UtcTime, nullable=False),
    Column("sent_at", UtcTime, nullable=True),
    sqlite_autoincrement=True,
)

# Who sends an environment's notices now (until then nobody else may), or until when nobody may after a failure (`holder` empty).
outboxes = Table(
    "outboxes",
    TABLES,
    Column("environment", String(200), primary_key=True),
    Column("holder", String(60), nullable=False),
    Column("until", UtcTime, nullable=False),
    Column("failures", Integer, nullable=False),
)

# Which message, in the words of whoever shows it, tells about a notice's key.
notice_places = Table(
    "notice_places",
    TABLES,
    Column("key", String(200), primary_key=True),
    Column("place", Text, nullable=False),
    Column("at", UtcTime, nullable=False),
)

# Append-only. `key` is the look's own: a write that is tried again is one row. `document` has what each endpoint answered.
verifications = Table(
    "verifications",
    TABLES,
    Column("environment", String(31), primary_key=True),
    Column("number", Integer, primary_key=True, autoincrement=False),
    Column("key", String(200), nullable=False, unique=True),
    Column("at", UtcTime, nullable=False),
    Column("rollout", String(60), ForeignKey("rollouts.id"), nullable=False),
    Column("release_id", String(120), nullable=False),
    Column("deed", String(20), nullable=False),
    Column("reason", Text, nullable=False),
    Column("alerted", Boolean, nullable=False),
    Column("document", Text, nullable=False),
)

# Append-only: the newest row of an environment says whether promotions to it are held.
holds = Table(
    "holds",
    TABLES,
    Column("number", Integer, primary_key=True),
    Column("environment", String(31), nullable=False),
    Column("at", UtcTime, nullable=False),
    Column("held", Boolean, nullable=False),
    Column("by", Text, nullable=False),
    Column("reason", Text, nullable=False),
    sqlite_autoincrement=True,
)

# Append-only. `key` is the measurement's own, one row per service; `document` has its looks at two halves of the replicas.
calibrations = Table(
    "calibrations",
    TABLES,
    Column("number", Integer, primary_key=True),
    Column("key", String(200), nullable=False),
    Column("environment", String(31), nullable=False),
    Column("service", Text, nullable=False),
    Column("release_id", String(120), nullable=False),
    Column("at", UtcTime, nullable=False),
    Column("look_seconds", Float, nullable=False),
    Column("document", Text, nullable=False),
    UniqueConstraint("key", "environment", "service"),
    sqlite_autoincrement=True,
)

# Append-only. `document` is the signed envelope as it was written; `fingerprint` its SHA-256. Whoever reads it verifies it.
envelopes = Table(
    "envelopes",
    TABLES,
    Column("number", Integer, primary_key=True),
    Column("release_id", String(120), ForeignKey("releases.id"), nullable=False),
    Column("fingerprint", String(64), nullable=False),
    Column("at", UtcTime, nullable=False),
    Column("document", Text, nullable=False),
    UniqueConstraint("release_id", "fingerprint"),
    sqlite_autoincrement=True,
)

# Append-only. `key` is the test's own; `rollout_id` and `sha256` say which backup it was.
restore_tests = Table(
    "restore_tests",
    TABLES,
    Column("number", Integer, primary_key=True),
    Column("key", String(200), nullable=False),
    Column("environment", String(31), nullable=False),
    Column("rollout_id", String(60), nullable=False),
    Column("sha256", String(64), nullable=False),
    Column("at", UtcTime, nullable=False),
    Column("well", Boolean, nullable=False),
    Column("seconds", Float, nullable=False),
    Column("what", Text, nullable=False),
    UniqueConstraint("key"),
    sqlite_autoincrement=True,
)
