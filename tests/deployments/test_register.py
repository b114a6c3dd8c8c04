"""Registration against a real Prefect server, and what its API then takes and refuses."""

import os
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import httpx
import pytest

from deployments.automations import REACTIONS
from deployments.register import HOME, deployment_names
from tests.prefect_stage import prefect_server

SHA = "3f2a1bc93f2a1bc93f2a1bc93f2a1bc93f2a1bc9"
SECRET = "a-value-that-nobody-may-see"
BLOCKS = f"""\
[docker-target.production]
environment = "production"
network = "greenroom-production"
public_url = "http://127.0.0.1:8080"
secrets = "production"
traffic = {{ environment = "production", dynamic_dir = "/tmp/dynamic", admin_url = "http://127.0.0.1:8099", entry_point = "production" }}
[environment-secrets.production]
values = {{ SECRET_KEY = "{SECRET}" }}
[oci-registry.default]
host = "127.0.0.1:5000"
"""


def registered(settings: Mapping[str, str]) -> subprocess.CompletedProcess[str]:
    environment = {key: value for key, value in os.environ.items() if not key.startswith(("PREFECT_", "GREENROOM_"))}
    return subprocess.run(
        [sys.executable, "-m", "deployments.register"],
        cwd=HOME,
        env={**environment, **settings},
        capture_output=True,
        text=True,
        check=False,
        timeout=300,
    )


def test_every_deployment_names_a_flow_of_its_own() -> None:
    back = ("rollback", "recover", "canary-verification")
    upkeep = ("housekeeping", "restore-test", "delivery-metrics", "health-overview", "calibration", "preflight", "rotation", "secret-age")
    flows = ("pipeline", "promote", *back, *upkeep)
    assert deployment_names() == [f"{name}/{name}" for name in flows]


@pytest.mark.processes
def test_without_a_blocks_file_nothing_is_registered(tmp_path: Path) -> None:
    done = registered({"GREENROOM_WORK_DIR": str(tmp_path), "PREFECT_API_URL": "http://127.0.0.1:9/api"})
    assert done.returncode == 2
    assert done.stderr.startswith("There is no blocks file")
    assert "Traceback" not in done.stderr


@pytest.fixture(scope="module")
def api(tmp_path_factory: pytest.TempPathFactory) -> httpx.Client:
    """Everything registered twice: the second time must find it well."""
    folder = tmp_path_factory.mktemp("installation")
    (folder / "blocks.toml").write_text(BLOCKS)
    (folder / "blocks.toml").chmod(0o600)
    server = prefect_server()
    for _ in range(2):
        done = registered({**server.client_settings(), "GREENROOM_WORK_DIR": str(folder)})
        assert (done.returncode, done.stderr) == (0, "")
        assert SECRET not in done.stdout
    assert "Work pool: greenroom was there." in done.stdout
    assert done.stdout.count("was there.") == 1 + len(REACTIONS)
    return httpx.Client(base_url=server.api_url, timeout=30, trust_env=False)


def start(api: httpx.Client, name: str, body: Mapping[str, Any]) -> httpx.Response:
    found = api.get(f"/deployments/name/{name}/{name}").json()
    return api.post(f"/deployments/{found['id']}/create_flow_run", json=body)


@pytest.mark.prefect
@pytest.mark.parametrize(
    ("deployment", "parameters", "named"),
    [
        ("pipeline", {"sha": "main"}, "sha"),
        ("pipeline", {"sha": SHA.upper()}, "sha"),
        ("pipeline", {"sha": SHA, "version": "latest"}, "version"),
        ("pipeline", {"sha": SHA, "until": "moon"}, "until"),
        ("pipeline", {"sha": SHA, "kind": "rollback"}, "kind"),
        ("pipeline", {"sha": SHA, "colour": "green"}, "colour"),
        ("pipeline", {}, "sha"),
        ("promote", {"release": "v1.0.0"}, "release"),
        ("promote", {"release": "v1.0.0-3f2a1bc9", "environment": "../production"}, "environment"),
        ("rollback", {"environment": "production"}, "reason"),
        ("rollback", {"environment": "production", "reason": ""}, "reason"),
        ("rollback", {"environment": "production", "reason": "x", "verison": "1.0.0"}, "verison"),
        ("recover", {"force": True}, "force"),
        ("canary-verification", {"environment": "Production!"}, "environment"),
        ("canary-verification", {"now": "perhaps"}, "now"),
        ("pipeline", {"sha": SHA, "remediates": "yesterday"}, "remediates"),
        ("promote", {"release": "v1.0.0-3f2a1bc9", "planned": "perhaps"}, "planned"),
        ("delivery-metrics", {"days": 0}, "days"),
    ],
)
def test_the_api_refuses_what_cannot_be_meant_and_names_it(
    api: httpx.Client, deployment: str, parameters: Mapping[str, Any], named: str
) -> None:
    answer = start(api, deployment, {"parameters": parameters})
    assert answer.status_code == 409
    assert named in answer.json()["detail"]


SOUND = {
    "pipeline": {"sha": SHA, "version": "v1.4.2", "remediates": "production-7"},
    "promote": {"release": "v1.0.0-3f2a1bc9", "environment": "production", "remediates": "production-7"},
    "rollback": {"environment": "production", "version": "v1.4.2", "reason": "it is slow", "by": "Bea"},
    "preflight": {"environment": "production"},
}
FREE = ("reason", "by")  # words of people, which nothing reads but people
HOSTILE = [
    "", "\n", "{sound}\n", "\n{sound}", "{sound};touch marker", "$(touch marker)", "`touch marker`", "{{ sound }}", "--upload-pack=x",
    "a..b", "../{sound}", "٣", "{sound}\u0000", "\u202e{sound}", "x" * 300, None, 7, True, [], ["{sound}"],
    {"__prefect_kind": "jinja", "template": "$(touch marker)"},  # rendered by Prefect, and then looked at like any text
]  # fmt: skip


@pytest.mark.prefect
def test_no_parameter_takes_what_a_shell_a_template_a_path_or_another_type_would_be(api: httpx.Client) -> None:
    taken = []
    for deployment, sound in SOUND.items():
        assert start(api, deployment, {"parameters": sound}).status_code == 201
        for name, value in sound.items():
            for hostile in HOSTILE if name not in FREE else ["", " \n", None, 7, [], "x" * 501]:
                said = hostile.replace("{sound}", value) if isinstance(hostile, str) else hostile
                optional = said is None and name in ("version", "remediates", "by")
                answer = start(api, deployment, {"parameters": {**sound, name: said}})
                if answer.status_code != 409 and not optional:
                    taken.append((deployment, name, said, answer.status_code))
    assert taken == []


@pytest.mark.prefect
def test_the_words_of_people_stay_as_they_were_written(api: httpx.Client) -> None:
    words = "{{ prefect.variables.x }} ${HOME} $(touch marker) <!channel> ; rm -rf /"
    answer = start(api, "rollback", {"parameters": {"environment": "production", "reason": words}})
    assert (answer.status_code, answer.json()["parameters"]["reason"]) == (201, words)


@pytest.mark.prefect
def test_the_same_key_twice_is_one_run(api: httpx.Client) -> None:
    body = {"parameters": {"sha": SHA, "version": "v1.4.2"}, "idempotency_key": "one-and-the-same"}
    first, second = start(api, "pipeline", body), start(api, "pipeline", body)
    assert (first.status_code, second.status_code) == (201, 200)
    assert first.json()["id"] == second.json()["id"]


@pytest.mark.prefect
@pytest.mark.parametrize("name", ["pipeline", "promote", "rollback", "recover", "canary-verification", "delivery-metrics"])
def test_every_parameter_of_the_form_is_described_and_the_schema_is_closed(api: httpx.Client, name: str) -> None:
    found = api.get(f"/deployments/name/{name}/{name}").json()
    schema = found["parameter_openapi_schema"]
    assert found["enforce_parameter_schema"]
    assert schema["additionalProperties"] is False
    assert [key for key, field in schema["properties"].items() if not field.get("description")] == []
    assert found["pull_steps"] in (None, [])
    assert found["job_variables"]["env"]["PREFECT_LOGGING_EXTRA_LOGGERS"] == "greenroom"


@pytest.mark.prefect
@pytest.mark.parametrize("name", ["recover", "canary-verification"])
def test_what_looks_after_everything_is_scheduled_every_minute(api: httpx.Client, name: str) -> None:
    (schedule,) = api.get(f"/deployments/name/{name}/{name}").json()["schedules"]
    assert (schedule["schedule"]["interval"], schedule["active"]) == (60, True)


@pytest.mark.prefect
def test_delivery_metrics_are_scheduled_every_day(api: httpx.Client) -> None:
    (schedule,) = api.get("/deployments/name/delivery-metrics/delivery-metrics").json()["schedules"]
    assert (schedule["schedule"]["cron"], schedule["schedule"]["timezone"], schedule["active"]) == ("0 5 * * *", "UTC", True)


@pytest.mark.prefect
def test_health_is_looked_at_every_five_minutes(api: httpx.Client) -> None:
    (schedule,) = api.get("/deployments/name/health-overview/health-overview").json()["schedules"]
    assert (schedule["schedule"]["interval"], schedule["active"]) == (300, True)


@pytest.mark.prefect
def test_blocks_are_there_and_their_secrets_are_masked(api: httpx.Client) -> None:
    found = api.get("/block_types/slug/environment-secrets/block_documents/name/production")
    assert found.status_code == 200
    assert SECRET not in found.text
    target = api.get("/block_types/slug/docker-target/block_documents/name/production").json()
    assert target["block_document_references"]["secrets"]["block_document"]["name"] == "production"
