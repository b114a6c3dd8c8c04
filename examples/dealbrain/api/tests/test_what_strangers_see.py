import pytest
from fastapi.testclient import TestClient

from dealbrain.app import create_app
from dealbrain.settings import Settings

DOCUMENTATION = ("/docs", "/redoc", "/openapi.json")


def visitor(environment: str) -> TestClient:
    variables = {"ENVIRONMENT": environment, "SECRET_KEY": "only-for-this-test"}
    return TestClient(create_app(Settings.read(variables)))


@pytest.mark.parametrize("path", DOCUMENTATION)
def test_the_documentation_is_for_development_alone(path: str) -> None:
    assert visitor("development").get(path).status_code == 200
    assert visitor("staging").get(path).status_code == 404


@pytest.mark.parametrize("path", ["/api/nothing", "/docs"])
def test_every_answer_tells_browsers_to_be_careful(path: str) -> None:
    headers = visitor("production").get(path).headers
    assert headers["x-content-type-options"] == "nosniff"
    assert headers["referrer-policy"] == "no-referrer"
    assert headers["strict-transport-security"].startswith("max-age=31536000")
    assert "frame-ancestors 'none'" in headers["content-security-policy"]


def test_the_documentation_may_load_its_scripts() -> None:
    assert "content-security-policy" not in visitor("development").get("/docs").headers
