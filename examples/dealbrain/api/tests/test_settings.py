import pytest

from dealbrain.settings import InvalidSettings, Settings


def test_development_needs_no_secret() -> None:
    assert Settings.read({}).environment == "development"


def test_production_needs_a_secret() -> None:
    with pytest.raises(InvalidSettings, match="SECRET_KEY is not set in production"):
        Settings.read({"ENVIRONMENT": "production"})


def test_no_secret_is_shown() -> None:
    variables = {
        "SECRET_KEY": "s3cret-1",
        "DATABASE_URL": "postgresql+asyncpg://u:s3cret-2@db/x",
        "REDIS_URL": "redis://:s3cret-3@redis",
    }
    assert "s3cret" not in repr(Settings.read(variables))


@pytest.mark.parametrize("text", ["soon", "-1"])
def test_seconds_must_be_seconds(text: str) -> None:
    with pytest.raises(InvalidSettings, match="JOB_SECONDS"):
        Settings.read({"JOB_SECONDS": text})
