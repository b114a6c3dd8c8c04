"""Production's database password is renewed by what a team has: two files, the deployment *rotation*, and one approval."""

import tomllib
from collections.abc import Iterator
from datetime import UTC, datetime

import psycopg
import pytest

from delivery.journal import Ending
from tests.system.premises import Premises
from tests.system.users import Users

pytestmark = [pytest.mark.docker, pytest.mark.prefect]

NAME, ROLE, PASSWORD = "DATABASE_URL", "renewed", "second-password-of-production"


@pytest.fixture
def files(premises: Premises) -> Iterator[None]:
    """Both are as before afterwards."""
    installation = premises.installation
    kept = {file: file.read_text() for file in (installation.folder / "blocks.toml", installation.environments / "production.toml")}
    yield
    for file, text in kept.items():
        file.write_text(text)
    installation.run("-m", "deployments.register")


def told(premises: Premises) -> str:
    run = premises.ended(premises.start("rotation/rotation", environment="production", secret=NAME))
    assert run.state == "COMPLETED", run.message
    return run.message or ""


@pytest.mark.usefixtures("files")
def test_a_database_password_is_renewed_by_two_edits_and_one_approval_and_nobody_loses_a_request(premises: Premises) -> None:
    installation = premises.installation
    before = premises.live("1.0.0")
    backing = installation.backing("production")
    with psycopg.connect(backing.database_url(inside=False, driver="postgresql").get_secret_value(), autocommit=True) as connection:
        connection.execute(f"CREATE ROLE {ROLE} LOGIN PASSWORD '{PASSWORD}'".encode())
        connection.execute(f"GRANT {backing.user} TO {ROLE}".encode())

    first = backing.database_url(inside=True).get_secret_value()
    second = f"postgresql+asyncpg://{ROLE}:{PASSWORD}@db:5432/{backing.database}"
    blocks = installation.folder / "blocks.toml"
    assert tomllib.loads(blocks.read_text())["environment-secrets"]["production"]["values"][NAME] == first
    blocks.write_text(blocks.read_text().replace(f'{NAME} = "{first}"', f'"{NAME}@1" = "{first}", "{NAME}@2" = "{second}"'))
    installation.run("-m", "deployments.register")
    assert told(premises).startswith(f"Production, {NAME}: the environment's file names version none. Next: write version = 2")

    file = installation.environments / "production.toml"
    file.write_text(f'{file.read_text()}\n[secrets.{NAME}]\nowner = "Bea"\nversion = 2\ncreated = "{datetime.now(UTC).date()}"\n')
    users = Users(installation.public_url("production"), rate=20)
    users.start()
    try:
        sentence = told(premises)
        assert f"The rollout of version 2 is asked for: {installation.prefect.url}/runs/flow-run/" in sentence
        run_id = sentence.rpartition("/")[2]
        premises.approve(run_id)
        run = premises.ended(run_id)
        assert run.state == "COMPLETED", run.message
        record = premises.last_rollout("production")
        premises.require_ended(record, Ending.LIVE, "Production runs v1.0.0.")
        assert (record.kind, record.build) == ("config", before.build)
        assert record.release != before.id
        assert told(premises).startswith(f"Production, {NAME}: still running with an older version: {before.id} until ")
    finally:
        users.stop()
    assert users.failures() == []
    assert users.got()
    with psycopg.connect(backing.database_url(inside=False, driver="postgresql").get_secret_value()) as connection:
        roles = connection.execute("SELECT DISTINCT usename FROM pg_stat_activity WHERE datname = current_database()").fetchall()
    assert (ROLE,) in roles
