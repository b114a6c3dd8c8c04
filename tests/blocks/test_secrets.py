import pytest
from pydantic import SecretStr, ValidationError

from blocks.secrets import EnvironmentSecrets, redactor


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


def test_the_names_of_secrets_are_told_without_a_value() -> None:
    secrets = EnvironmentSecrets(values={"DATABASE_URL": "postgresql://app:hunter2@db", "REDIS_URL": "redis://x"})
    assert secrets.names() == {"DATABASE_URL", "REDIS_URL"}


VERSIONS = EnvironmentSecrets(values={"TOKEN": "of-great-value", "URL@1": "the-first-one", "URL@2": "the-second-one"})  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("wanted", "given"),
    [({}, "the-first-one"), ({"URL": 1}, "the-first-one"), ({"URL": 2}, "the-second-one"), ({"URL": 3, "TOKEN": 7}, "the-second-one")],
)
def test_a_variable_is_given_in_the_version_that_is_wanted_else_the_oldest_and_for_a_retired_one_the_newest(
    wanted: dict[str, int], given: str
) -> None:
    found = {name: value.get_secret_value() for name, value in VERSIONS.given(wanted).items()}
    assert found == {"TOKEN": "of-great-value", "URL": given}


def test_every_version_is_kept_out_of_what_people_read_and_its_variable_is_named_once() -> None:
    assert redactor(VERSIONS.reveal().values())("the-first-one, the-second-one") == "***, ***"
    assert VERSIONS.names() == {"TOKEN", "URL"}
    assert VERSIONS.versions() == {"URL": (1, 2)}


@pytest.mark.parametrize(
    "values", [{"URL@two": "secret-value"}, {"URL@": "secret-value"}, {"URL@1": "secret-value", "URL": "secret-value"}]
)
def test_a_version_that_cannot_be_meant_is_refused_without_its_value(values: dict[str, str]) -> None:
    with pytest.raises(ValidationError, match=r"got .* expected") as refused:
        EnvironmentSecrets(values=values)  # type: ignore[arg-type]
    assert "secret-value" not in refused.value.json(include_input=False)
