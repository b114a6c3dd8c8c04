import secrets
import shutil
from collections.abc import Iterator
from pathlib import Path

import docker
import psycopg
import pytest
from pydantic import SecretStr

from delivery.errors import DeliveryError
from deployments.backing import Backing, BackingContainers

BACKING = Backing(
    network="greenroom-x",
    user="app",
    database="shop",
    database_password=SecretStr("first-secret"),
    redis_password=SecretStr("second-secret"),
    database_port=20001,
    redis_port=20002,
)


def test_containers_use_names_and_this_machine_uses_ports() -> None:
    assert BACKING.database_url(inside=True).get_secret_value() == "postgresql+asyncpg://app:first-secret@db:5432/shop"
    outside = BACKING.database_url(inside=False, driver="postgresql")
    assert outside.get_secret_value() == "postgresql://app:first-secret@127.0.0.1:20001/shop"
    assert BACKING.redis_url(inside=True).get_secret_value() == "redis://:second-secret@redis:6379/0"
    assert BACKING.redis_url(inside=False).get_secret_value() == "redis://:second-secret@127.0.0.1:20002/0"


def test_passwords_do_not_show_when_it_is_printed() -> None:
    assert "first-secret" not in repr(BACKING)
    assert "second-secret" not in repr(BACKING)


@pytest.fixture
def containers(tmp_path: Path) -> Iterator[BackingContainers]:
    containers = BackingContainers(f"test-{secrets.token_hex(4)}", tmp_path, durable=False)
    yield containers
    containers.remove(volumes=True)


@pytest.mark.docker
def test_addresses_stay_over_a_stop_and_data_over_new_containers(containers: BackingContainers) -> None:
    first = containers.start()
    with psycopg.connect(first.database_url(inside=False, driver="postgresql").get_secret_value()) as connection:
        connection.execute("CREATE TABLE kept (id integer)")
    containers.stop()
    assert containers.start() == first
    containers.remove(volumes=False)
    again = containers.start()
    with psycopg.connect(again.database_url(inside=False, driver="postgresql").get_secret_value()) as connection:
        assert connection.execute("SELECT count(*) FROM kept").fetchone() == (0,)


@pytest.mark.docker
def test_no_password_is_seen_by_inspecting_or_in_the_logs(containers: BackingContainers) -> None:
    backing = containers.start()
    engine = docker.from_env()
    seen = ""
    for name in containers.container_names:
        container = engine.containers.get(name)
        seen += str(container.attrs) + container.logs().decode() + str(container.top())
    assert backing.database_password.get_secret_value() not in seen
    assert backing.redis_password.get_secret_value() not in seen


@pytest.mark.docker
def test_a_wrong_password_is_refused_by_the_database(containers: BackingContainers) -> None:
    backing = containers.start()
    right = backing.database_url(inside=False, driver="postgresql").get_secret_value()
    wrong = right.replace(backing.database_password.get_secret_value(), "wrong")
    with pytest.raises(psycopg.OperationalError, match="password authentication failed"):
        psycopg.connect(wrong)


@pytest.mark.docker
def test_a_volume_whose_password_is_lost_is_refused(containers: BackingContainers, tmp_path: Path) -> None:
    containers.start()
    containers.remove(volumes=False)
    shutil.rmtree(tmp_path / "backing")
    with pytest.raises(DeliveryError, match=r"whose password is not in"):
        containers.start()


@pytest.mark.docker
def test_removing_leaves_nothing_of_the_environment(containers: BackingContainers, tmp_path: Path) -> None:
    containers.start()
    containers.remove(volumes=True)
    engine = docker.from_env()
    assert engine.containers.list(all=True, filters={"name": containers.network}) == []
    assert engine.volumes.list(filters={"name": containers.network}) == []
    assert engine.networks.list(names=[containers.network]) == []
    assert not (tmp_path / "backing" / containers.network.removeprefix("greenroom-")).exists()
