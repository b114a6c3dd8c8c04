import hashlib
import json
import secrets
from collections.abc import Iterator
from pathlib import Path
from urllib.parse import urlsplit

import httpx
import pytest

from delivery.errors import DeliveryError
from deployments.backing import PrefectDatabase
from deployments.machine import engine_client
from deployments.processes import free_ports, wait_until
from deployments.stage import (
    PrefectServer,
    PrefectWorker,
    Registry,
    Traefik,
    registry_configuration,
    traefik_configuration,
)


def test_every_entry_point_listens_on_loopback_only() -> None:
    static = traefik_configuration({"staging": 8001, "production": 8002}, 8003, Path("/state/dynamic"))
    addresses = {name: point["address"] for name, point in static["entryPoints"].items()}
    assert addresses == {"staging": "127.0.0.1:8001", "production": "127.0.0.1:8002", "admin": "127.0.0.1:8003"}


def test_users_never_arrive_at_the_admin_entry_point_by_default() -> None:
    points = traefik_configuration({"staging": 8001}, 8003, Path("/state/dynamic"))["entryPoints"]
    assert points["staging"]["asDefault"]
    assert "asDefault" not in points["admin"]


def test_an_entry_point_may_not_take_the_admins_name() -> None:
    with pytest.raises(DeliveryError, match="admin"):
        traefik_configuration({"admin": 8001}, 8003, Path("/state/dynamic"))


def test_a_change_is_applied_at_once_and_no_telemetry_is_sent() -> None:
    static = traefik_configuration({"staging": 8001}, 8003, Path("/state/dynamic"))
    assert static["providers"]["providersThrottleDuration"] == "0.1s"
    assert static["global"] == {"checkNewVersion": False, "sendAnonymousUsage": False}


def test_the_registry_allows_deleting() -> None:
    assert registry_configuration(Path("/state/data"), 5000)["storage"]["delete"] == {"enabled": True}


def test_clients_of_the_server_never_get_its_encryption_key(tmp_path: Path) -> None:
    server = PrefectServer(tmp_path, 4200)
    assert server.client_settings()["PREFECT_API_URL"] == "http://127.0.0.1:4200/api"
    assert "PREFECT_SERVER_ENCRYPTION_KEY" not in server.client_settings()


@pytest.fixture
def registry(tmp_path: Path) -> Iterator[Registry]:
    registry = Registry(tmp_path, free_ports(["registry"])["registry"])
    yield registry
    registry.stop()


@pytest.mark.docker
def test_a_registry_keeps_what_it_was_given_over_a_restart(registry: Registry) -> None:
    registry.start()
    content = b"a layer"
    digest = f"sha256:{hashlib.sha256(content).hexdigest()}"
    with httpx.Client(base_url=f"http://{registry.address}", trust_env=False) as client:
        upload = httpx.URL(client.post("/v2/app/blobs/uploads/").headers["location"])
        stored = client.put(upload.copy_merge_params({"digest": digest}), content=content)
        registry.stop()
        registry.start()
        kept = client.get(f"/v2/app/blobs/{digest}")
    assert stored.status_code == 201
    assert kept.content == content


@pytest.fixture
def traefik(tmp_path: Path) -> Iterator[Traefik]:
    ports = free_ports(["staging", "production", "admin"])
    admin = ports.pop("admin")
    traefik = Traefik(tmp_path, ports, admin)
    yield traefik
    traefik.stop()


@pytest.mark.docker
def test_a_renamed_file_is_live_soon_and_again_after_a_restart(traefik: Traefik, tmp_path: Path) -> None:
    traefik.start()
    registry = Registry(tmp_path, free_ports(["registry"])["registry"])
    registry.start()
    try:
        routes = {
            "http": {
                "routers": {"app": {"entryPoints": ["staging"], "rule": "PathPrefix(`/`)", "service": "app"}},
                "services": {"app": {"loadBalancer": {"servers": [{"url": f"http://{registry.address}"}]}}},
            }
        }
        new = traefik.new_files_directory / "app.yml"
        new.write_text(json.dumps(routes))
        new.replace(traefik.dynamic_directory / "app.yml")
        wait_for_service(traefik)
        assert httpx.get(f"{traefik.url('staging')}/v2/", trust_env=False).status_code == 200
        assert httpx.get(f"{traefik.url('production')}/v2/", trust_env=False).status_code == 404
        assert 'service="app@file"' in httpx.get(f"{traefik.admin_url}/metrics", trust_env=False).text
        traefik.stop()
        traefik.start()
        wait_for_service(traefik)
        assert httpx.get(f"{traefik.url('staging')}/v2/", trust_env=False).status_code == 200
    finally:
        registry.stop()


def wait_for_service(traefik: Traefik) -> None:
    url = f"{traefik.admin_url}/api/http/services/app@file"
    wait_until(lambda: httpx.get(url, trust_env=False).status_code == 200, what="the new route", seconds=10)


@pytest.mark.docker
def test_the_admin_api_is_not_to_be_had_where_users_arrive(traefik: Traefik) -> None:
    traefik.start()
    assert httpx.get(f"{traefik.admin_url}/api/version", trust_env=False).status_code == 200
    assert httpx.get(f"{traefik.url('staging')}/api/version", trust_env=False).status_code == 404
    assert httpx.get(f"{traefik.url('production')}/metrics", trust_env=False).status_code == 404


@pytest.mark.prefect
def test_a_worker_is_online_on_a_server_whose_ui_shows_resume_as_a_button(tmp_path: Path) -> None:
    server = PrefectServer(tmp_path, free_ports(["prefect"])["prefect"])
    worker = PrefectWorker(tmp_path, server, "stage")
    try:
        server.start()
        worker.start()
        with httpx.Client(base_url=server.api_url, trust_env=False) as client:
            pool = client.get("/work_pools/stage").json()
            settings = client.get("/admin/settings").json()
        assert (pool["type"], pool["status"]) == ("process", "READY")
        assert settings["server"]["ui"]["v2_enabled"] is False
        assert (tmp_path / "prefect" / "encryption-key").stat().st_mode & 0o777 == 0o600
    finally:
        worker.stop()
        server.stop()
    assert server.process.pid() is None
    assert worker.process.pid() is None


@pytest.mark.docker
@pytest.mark.prefect
def test_a_server_with_a_database_of_its_own_keeps_its_runs_there_and_shows_its_password_to_nobody(tmp_path: Path) -> None:
    database = PrefectDatabase(tmp_path, name=f"test-{secrets.token_hex(4)}", durable=False)
    server = PrefectServer(tmp_path, free_ports(["prefect"])["prefect"], database=database.start)
    try:
        server.start()
        with httpx.Client(base_url=server.api_url, trust_env=False) as client:
            client.post("/variables/", json={"name": "kept", "value": "in PostgreSQL"}).raise_for_status()
        password = urlsplit(database.start().get_secret_value()).password or ""
        asked = ["psql", "--user", "prefect", "--dbname", "prefect", "--tuples-only", "--command", "select value from variable"]
        container = engine_client().containers.get(database.container_names[0])
        assert "in PostgreSQL" in str(container.exec_run(asked).output)
        assert not (tmp_path / "prefect" / "prefect.db").exists()
        pid = server.process.pid()
        assert password
        assert password not in Path(f"/proc/{pid}/cmdline").read_text()
        assert password not in str(container.attrs)
    finally:
        server.stop()
        database.remove(volumes=True)
