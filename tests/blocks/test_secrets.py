from prefect.blocks.core import Block
from pydantic import SecretStr

from blocks.secrets import EnvironmentSecrets, names_in, redactor


class Platform(Block):
    """A target, as far as its secrets go."""

    secrets: EnvironmentSecrets | None = None


def test_a_secret_shows_only_when_it_is_asked_for() -> None:
    block = EnvironmentSecrets(values={"TOKEN": "of-great-value"})  # type: ignore[arg-type]
    assert "of-great-value" not in repr(block)
    assert block.reveal()["TOKEN"].get_secret_value() == "of-great-value"


def test_the_password_inside_an_address_is_hidden_on_its_own_as_well() -> None:
    redact = redactor([SecretStr("postgresql://app:p%40ss-word@db:5432/app")])
    said = redact("cannot log in with p@ss-word, quoted p%40ss-word, at postgresql://app:p%40ss-word@db:5432/app")
    assert "word" not in said.replace("quoted", "")


def test_a_secret_that_contains_another_leaves_no_rest() -> None:
    assert redactor([SecretStr("abcd"), SecretStr("abcdefgh")])("abcdefgh") == "***"


def test_values_too_short_to_be_secret_leave_a_log_readable() -> None:
    assert redactor([SecretStr("1"), SecretStr("")])("1 of 10 is done") == "1 of 10 is done"


def test_a_target_tells_the_names_of_the_secrets_it_hands_out_and_no_value() -> None:
    secrets = EnvironmentSecrets(values={"DATABASE_URL": "postgresql://app:hunter2@db", "REDIS_URL": "redis://x"})
    assert names_in(Platform(secrets=secrets)) == {"DATABASE_URL", "REDIS_URL"}
    assert names_in(Platform()) == frozenset()
