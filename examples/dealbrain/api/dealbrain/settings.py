"""What a container is told by its environment, read once at start."""

import os
from collections.abc import Mapping
from dataclasses import dataclass, field


class InvalidSettings(Exception):
    """A variable is missing or is not what it must be."""


@dataclass(frozen=True)
class Settings:
    """`job_seconds` is how long one job works; `drain_notice_seconds` how long a
    stopping server still accepts, answering each request with `Connection: close`."""

    environment: str
    version: str
    log_level: str
    job_seconds: float
    drain_notice_seconds: float
    database_url: str = field(repr=False)
    redis_url: str = field(repr=False)
    secret_key: str = field(repr=False)

    @property
    def is_development(self) -> bool:
        return self.environment == "development"

    @classmethod
    def read(cls, variables: Mapping[str, str] = os.environ) -> "Settings":
        environment = variables.get("ENVIRONMENT", "development")
        secret_key = variables.get("SECRET_KEY", "")
        if not secret_key and environment != "development":
            raise InvalidSettings(f"SECRET_KEY is not set in {environment}")
        return cls(
            environment=environment,
            version=variables.get("RELEASE_VERSION", "0.0.0-dev"),
            log_level=variables.get("LOG_LEVEL", "INFO").upper(),
            job_seconds=_seconds(variables, "JOB_SECONDS", "1.5"),
            drain_notice_seconds=_seconds(variables, "DRAIN_NOTICE_SECONDS", "0.3"),
            database_url=variables.get(
                "DATABASE_URL",
                "postgresql+asyncpg://dealbrain:dealbrain@localhost:5432/dealbrain",
            ),
            redis_url=variables.get("REDIS_URL", "redis://localhost:6379/0"),
            secret_key=secret_key,
        )


def _seconds(variables: Mapping[str, str], name: str, default: str) -> float:
    text = variables.get(name, default)
    try:
        seconds = float(text)
    except ValueError:
        raise InvalidSettings(f"{name} is {text!r}, expected seconds") from None
    if seconds < 0:
        raise InvalidSettings(f"{name} is {text}, expected 0 or more")
    return seconds
