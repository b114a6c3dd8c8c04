"""What an environment gives: values go in, names come out."""

import secrets

import pytest
from hypothesis import given
from hypothesis import strategies as st

from delivery.application import Service
from delivery.environment_rules import Known, Trouble, Values, look, troubles

KEY = b"of this process"
STRONG = "Qm5xTn9LrWc3KpVd8HsYb2ZfJg7AeUi4"


def known(place: str = "net", **values: str) -> dict[str, Known]:
    return {name: look(name, value, key=KEY, place=place) for name, value in values.items()}


def values(name: str = "production", *, first: bool = False, whole: bool = True, place: str = "net", **given: str) -> Values:
    return Values(name, first=first, known=known(place, **given), whole=whole)


def service(*variables: str, **settings: str) -> Service:
    return Service("api", "worker", ".", "Dockerfile", ready=("true",), variables=variables, settings=settings)


def told(*found: Trouble) -> list[str]:
    return [trouble.what for trouble in found]


def test_what_a_service_needs_and_nobody_gives_is_named() -> None:
    found = troubles(values(HERE="x", BLANK="  "), (), [service("HERE", "THERE", "BLANK")])
    assert told(*found) == ["service api needs THERE, which production lacks", "service api needs BLANK, which is empty in production"]
    assert all(trouble.certain for trouble in found)


def test_what_a_platform_may_hold_itself_is_worth_a_look_only() -> None:
    [lacking] = troubles(values(whole=False), (), [service("THERE")])
    assert not lacking.certain


DEBUGGING = [
    {"DEBUG": "1"},
    {"DEBUG": "True"},
    {"FLASK_DEBUG": "on"},
    {"DJANGO_DEBUG": "yes"},
    {"DEBUG": "app:*"},
    {"PYTHONDEVMODE": "1"},
    {"NODE_ENV": "development"},
    {"FLASK_ENV": " Development "},
]


@pytest.mark.parametrize("setting", DEBUGGING)
def test_nothing_debugs_in_an_environment_that_comes_after_another(setting: dict[str, str]) -> None:
    [there] = troubles(values(**setting), (), ())
    assert there.certain
    [first] = troubles(values("staging", first=True, **setting), (), ())
    assert not first.certain
    [of_service] = troubles(values(), (), [service(**setting)])
    assert (of_service.certain, "of service api" in of_service.what) == (True, True)


@pytest.mark.parametrize(
    "setting", [{"DEBUG": "0"}, {"DEBUG": "false"}, {"NODE_ENV": "production"}, {"DEBUG_PORT": "1"}, {"LOG_LEVEL": "INFO"}]
)
def test_what_is_switched_off_debugs_nothing(setting: dict[str, str]) -> None:
    assert troubles(values(**setting), (), [service(**setting)]) == ()


def test_a_log_that_tells_everything_is_worth_a_look() -> None:
    [loud] = troubles(values(LOG_LEVEL="debug"), (), ())
    assert not loud.certain


@pytest.mark.parametrize("name", ["SECRET_KEY", "JWT_SECRET", "DJANGO_SECRET_KEY", "SESSION_SECRET", "SECRET_KEY_BASE", "SECRET_KEY_OLD"])
@pytest.mark.parametrize(
    "value",
    [
        *("short", STRONG[:31], "a" * 64, "abcd" * 16, STRONG[:16] * 3, "0123456789abcdef" * 4, "12345678901234567890123456789012"),
        *(
            "abaabbabbbaaababbabaabbbaabababbaabab",
            "acbdabdcaddbcacabbdccbdaadcbbacdabca",
            "abcdefghijklmnopqrstuvwxyz{|}~",
            "abcdefghijklmnopqrstuvwxyz0123456789",
        ),
        *("django-insecure-" + STRONG, "changeme" + STRONG),
    ],
)
def test_a_key_that_could_be_guessed_is_none(name: str, value: str) -> None:
    [weak] = troubles(values(**{name: value}), (), ())
    assert weak.certain
    assert weak.what.startswith(f"{name} of production is no key: got ")
    assert value not in repr(weak)
    [first] = troubles(values(first=True, **{name: value}), (), ())
    assert not first.certain


def test_what_chance_makes_is_a_key() -> None:
    for made in (make() for make in (secrets.token_urlsafe, secrets.token_hex) for _ in range(100)):
        assert troubles(values(SECRET_KEY=made), (), ()) == ()


def test_a_password_of_a_database_is_no_key() -> None:
    assert troubles(values(DB_PASSWORD="short"), (), ()) == ()


@pytest.mark.parametrize(
    ("here", "there"),
    [
        ({"SECRET_KEY": STRONG}, {"SECRET_KEY": STRONG}),
        ({"API_TOKEN": "same-token"}, {"OTHER_TOKEN": "same-token"}),
        ({"DATABASE_URL": "postgresql://a:same-word@one.example/x"}, {"DATABASE_URL": "postgresql://b:same-word@two.example/x"}),
        ({"DATABASE_URL": "postgresql://a:same%2Dword@one.example/x"}, {"DB_PASSWORD": "same-word"}),
    ],
)
def test_no_two_environments_share_a_secret(here: dict[str, str], there: dict[str, str]) -> None:
    found = troubles(values(**here), [values("staging", **there)], ())
    assert told(*found) == [f"{next(iter(here))} of production has the secret of {next(iter(there))} in staging"]
    assert found[0].certain
    assert not any(value in repr(found) for value in (*here.values(), *there.values(), "same-word"))
    assert troubles(values(**here), [values("staging", **there)], (), shared=tuple(here)) == ()


def test_what_is_no_secret_may_be_the_same_everywhere() -> None:
    alike = {"REGION": "eu-central-1", "REDIS_URL": "redis://redis:6379/0", "LOG_LEVEL": "INFO", "PIN_TOKEN": "1"}
    assert troubles(values(place="one", **alike), [values("staging", place="two", **alike)], ()) == ()


@pytest.mark.parametrize(
    ("here", "there", "same"),
    [
        ("postgresql+asyncpg://a:1@db.example/shop", "postgres://b:2@DB.example:5432/shop?sslmode=require", True),
        ("postgresql://a:1@db.example/shop", "postgresql://a:2@db.example/stage", False),
        ("postgresql://a:1@db.example:5433/shop", "postgresql://a:2@db.example/shop", False),
        ("redis://cache.example", "rediss://cache.example:6379/0", True),
        ("redis://cache.example/0", "redis://cache.example/1", False),
    ],
)
def test_no_two_environments_have_one_database_whoever_logs_in(here: str, there: str, same: bool) -> None:  # noqa: FBT001
    found = troubles(values(DATABASE_URL=here), [values("staging", URL=there)], ())
    assert told(*found) == (["DATABASE_URL of production is the database that staging has as URL"] if same else [])


def test_a_host_without_a_dot_is_another_one_in_another_network() -> None:
    url = {"DATABASE_URL": "postgresql://a@db/shop"}
    assert troubles(values(place="one", **url), [values("staging", place="two", **url)], ()) == ()
    assert len(troubles(values(place="one", **url), [values("staging", place="one", **url)], ())) == 1


@pytest.mark.parametrize("value", ["mysql://a:hunter2@db/x", "hunter2", "sqlite:////tmp/x", "postgresqlx://db"])
def test_migrations_find_a_postgresql_database(value: str) -> None:
    [unfit] = troubles(values(DATABASE_URL=value), (), (), migrated="DATABASE_URL")
    assert "is not the address of a PostgreSQL database" in unfit.what
    assert value not in repr(unfit)


def test_a_password_that_tears_its_address_is_told_without_it() -> None:
    [torn] = troubles(values(DATABASE_URL="postgresql://a:hun/ter:2@db/x"), (), ())
    assert "is no address of a database" in torn.what
    assert "hun" not in repr(torn)


@given(st.text(max_size=40), st.text(max_size=60))
def test_whatever_a_value_is_nothing_of_it_is_kept_in_words(name: str, value: str) -> None:
    kept = look(name, value, key=KEY, place="")
    if len(value) > 20 and value not in "got few different characters, a row, or the same over and over, expected what chance makes":
        assert value not in repr(kept)
