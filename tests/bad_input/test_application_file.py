"""The corpus of bad input, row by row: a clear error with its place and the next step, nothing done, nothing shown that could be secret.

Rows that do not apply as they were written, and what stands for them here:

3       YAML and its tabs: there is none; bad TOML is row 4
5       a list at the top: TOML has only tables there
7, 8    tags and aliases: TOML has neither; tables and lists without end are the like
12      `version`: there is no such key, so it is unknown
17      two services on one port: each replica has an address of its own; routes are what two may not share
18, 19  `depends_on`: there is no such key; environments come after one another, which may not be a circle
21      `:latest` in production: a release knows images by digest only; a reference without one is no image
24, 25  keys of targets: they stand in the blocks file, by type
35      units: the names of the keys say them (`p95_ms`, `for_seconds`)
37, 38  expressions in log patterns: there are none, patterns are plain text
43      `alembic.ini`, several heads: tests/tasks/test_review.py, in real repositories
51      a server of another version: Prefect's own client and server tell; that it is away is no bad input
56, 57  answers at the gate and ways back: also tests/flows/test_gate.py, test_promote.py, test_rollback.py
"""

from pathlib import Path

import pytest

from blocks.settings import load_application
from delivery.errors import InvalidSettings
from tests.bad_input.samples import APPLICATION, PLANTED, TOKEN

ROOT = Path(__file__).resolve().parents[2]


def of_application(folder: Path, text: str | bytes) -> str:
    """What is said of a `greenroom.toml`, which names the file in each line."""
    file = folder / "greenroom.toml"
    file.write_bytes(text if isinstance(text, bytes) else text.encode())
    with pytest.raises(InvalidSettings) as refused:
        load_application(file)
    assert all(line.startswith(str(file)) for line in refused.value.what.splitlines())
    assert refused.value.next
    assert not any(secret in str(refused.value) for secret in (PLANTED, TOKEN))
    return refused.value.what.replace(str(file), "FILE")


def test_what_the_corpus_changes_is_sound_before(tmp_path: Path) -> None:
    (tmp_path / "greenroom.toml").write_text(APPLICATION)
    assert load_application(tmp_path / "greenroom.toml").name == "shop"
    assert load_application(ROOT / "examples" / "dealbrain" / "greenroom.toml").name == "dealbrain"


FILES = [
    pytest.param(b"", "FILE:1 application: got nothing, expected this key", id="2-empty"),
    pytest.param(b'name = "shop\n', "FILE:1: not TOML: Illegal character", id="4-bad-toml"),
    pytest.param(
        b'[application]\nname = "a"\nname = "b"\n', "FILE:3: not TOML: application.name is there twice, first in line 2", id="6-key"
    ),
    pytest.param(b"[application]\n\n[application]\n", "FILE:3: not TOML: application is there twice, first in line 1", id="6-table"),
    pytest.param(b'name = "!!python/object/apply:os.system"\n', "FILE:1 application: got nothing", id="7-tag-is-text"),
    pytest.param(b"x = " + b"[" * 4000, "FILE: got tables or lists within each other without end", id="8-lists-without-end"),
    pytest.param(b"x = " + b"[" * 40 + b"]" * 40, "FILE: got tables or lists within each other without end", id="8-many-lists"),
    pytest.param(b"a" + b".a" * 4000 + b" = 1", "FILE: got tables or lists within each other without end", id="8-tables-without-end"),
    pytest.param(b"x = {a" + b".a" * 400_000 + b" = 1}", "FILE:1: got a line of 800011 characters", id="8-takes-for-ever"),
    pytest.param(b"#" * 20_000_000, "FILE is larger than 1 MB", id="9-twenty-megabytes"),
    pytest.param(APPLICATION.encode("utf-16"), "FILE cannot be read: it is not UTF-8 (byte 1)", id="10-utf-16"),
    pytest.param(b"name = '\xff'", "FILE cannot be read: it is not UTF-8 (byte 9)", id="10-no-utf-8"),
    pytest.param(b"[application]\nname = 'a\0'", "FILE:2: got a NUL character, expected text", id="10-nul"),
    pytest.param(b"\xef\xbb\xbf[application]", "FILE begins with a byte order mark", id="10-mark"),
    pytest.param(b"x = " + b"9" * 5000, "FILE: not TOML: got a value that cannot be one", id="number-of-5000-digits"),
]


@pytest.mark.parametrize(("data", "said"), FILES)
def test_a_file_that_nobody_can_mean_is_refused_as_a_whole(tmp_path: Path, data: bytes, said: str) -> None:
    assert of_application(tmp_path, data).startswith(said)


def test_a_file_that_is_none_is_refused(tmp_path: Path) -> None:
    (tmp_path / "folder.toml").mkdir()
    for name, said in (("nowhere.toml", "There is no file"), ("folder.toml", "is no file")):
        with pytest.raises(InvalidSettings, match=said) as refused:
            load_application(tmp_path / name)
        assert refused.value.next == "write a greenroom.toml at the root of the application's repository."


APPLICATIONS = [
    ("11", "[migrations]", "[migration]", "FILE:29 migration: got an unknown key", "(did you mean migrations?)"),
    ("11", 'kind = "web"\ncontext = "api"', 'kid = "web"\ncontext = "api"', "FILE:9 service api.kid: got an unknown key", "mean kind?"),
    ("12", "[application]", "version = 2.0\n[application]", "FILE:1 version: got an unknown key"),
    ("13", 'name = "web"', "name = true", "FILE:21 service[2].name: got true, expected text in quotes"),
    ("14", 'MODE = "plain"', "MODE = 1.10", "FILE:18 service api.settings.MODE: got 1.1, expected text in quotes"),
    ("15", "port = 8000", "port = 08020", "FILE:13: not TOML"),
    ("15", "port = 8000", 'port = "8020x"', "FILE:13 service api.port: got '8020x', expected a whole number"),
    ("15", "port = 8000", "port = 0", "FILE:13 service api.port: got 0, expected 1 to 65535"),
    ("15", "port = 8000", "port = 70000", "FILE:13 service api.port: got 70000, expected 1 to 65535"),
    ("15", "port = 8000", "port = true", "FILE:13 service api.port: got true, expected a whole number"),
    ("15", "port = 8000", "port = 0x" + "f" * 5000, "FILE:13 service api.port: got a number of more than 64 bits"),
    ("16", 'name = "web"', 'name = "API Server"', "FILE:21 service API Server.name: got 'API Server', expected up to 40"),
    ("16", 'name = "web"', 'name = "-rf"', ".name: got '-rf'"),
    ("16", 'name = "web"', 'name = "a;b"', ".name: got 'a;b'"),
    ("16", 'name = "web"', 'name = "$(id)"', ".name: got '$(id)'"),
    ("16", 'name = "web"', 'name = "{{ web }}"', ".name: got '{{ web }}'"),
    ("16", 'name = "web"', f'name = "{"w" * 64}"', "expected up to 40 lower-case letters"),
    ("16", 'name = "shop"', 'name = "Shop"', "FILE:2 application.name: got 'Shop'"),
    ("17", 'name = "web"', 'name = "api"', "FILE service.name: got 'api' twice, expected each name once"),
    ("17", 'routes = ["/"]', 'routes = ["/api"]', "FILE:26 service web.routes: got '/api', which api has, expected each route once"),
    ("17", 'name = "db"', 'name = "api"', "got the name of a service, expected another one"),
    ("19", 'service = "api"', 'service = "apy"', "FILE:30 migrations.service: got 'apy', expected one of: api, web"),
    ("20", '"python:3.12-slim"', '"Python 3.12"', "FILE:5 bases.PYTHON_BASE: got 'Python 3.12', expected an image such as"),
    ("20", '"postgres:15"', '"registry.example/Postgres:15"', "FILE:34 backing db.image: got 'registry.example/Postgres:15'"),
    ("22", '"postgres:15"', f'"postgres@sha256:{"0" * 63}"', "FILE:34 backing db.image: got"),
    ("23", 'kind = "web"\ncontext = "web"', 'kind = "wep"\ncontext = "web"', "service web.kind: got 'wep', expected one of 'web' or"),
    ("31", "seconds = 5", 'seconds = "5 minuets"', "load.seconds: got '5 minuets', expected a number"),
    ("31", "seconds = 5", "seconds = 1e9", "load.seconds: got 1e+09, expected more than 0, at most 3600"),
    ("31", "seconds = 5", "seconds = -5", "load.seconds: got -5, expected more than 0"),
    ("31", 'health = "/healthz"', 'health = "/healthz"\ndrain_seconds = 100000', "drain_seconds: got 100000, expected 0 to 3600"),
    ("32", "seconds = 5", "seconds = 5\nmax_failed_share = 5", "load.max_failed_share: got 5, expected 0 to 1"),
    ("33", "rate = 10", "rate = inf", "load.rate: got inf, expected a finite number"),
    ("39", '"/health"', '"http://169.254.169.254/"', "FILE:15 service api.health: got 'http://169.254.169.254/', expected a path"),
    ("40", '"/health"', '"//evil"', "service api.health: got '//evil'"),
    ("40", '"/health"', '"/../x"', "service api.health: got '/../x'"),
    ("40", '"/health"', r'"/x\r\nHost: evil"', "service api.health: got"),
    ("40", 'path = "/"', 'path = "@evil.example/"', "smoke[1].path: got '@evil.example/'"),
    ("40", 'paths = ["/"]', 'paths = ["//evil"]', "load.paths: got '//evil'"),
    ("40", 'routes = ["/api"]', 'routes = ["/`) || Host(`evil"]', "service api.routes: got '/`) || Host(`evil', expected a path such"),
    ("41", '"api/Dockerfile"', '"../../etc/passwd"', "FILE:11 service api.dockerfile: got '../../etc/passwd', expected a path inside"),
    ("41", '"api/Dockerfile"', '"/etc/passwd"', "service api.dockerfile: got '/etc/passwd'"),
    ("41", 'context = "api"', 'context = "-api"', "service api.context: got '-api'"),
    ("44", 'MODE = "plain"', f'DB_PASSWORD = "{PLANTED}"', "FILE:18 service api.settings.DB_PASSWORD: got a secret as plain text"),
    ("44", 'MODE = "plain"', "SECRET_KEY = 83838383", "service api.settings.SECRET_KEY: got a value that is not shown"),
    ("44", 'MODE = "plain"', f'URL = "postgresql://shop:{PLANTED}@db.example/shop"', "settings.URL: got an address with a login in it"),
    ("44", 'MODE = "plain"', f'URL = "redis://:{PLANTED}@cache.example/0"', "settings.URL: got an address with a login in it"),
    ("44", 'MODE = "plain"', f'URL = "https://{PLANTED}@host.example/"', "settings.URL: got an address with a login in it"),
    ("44", 'MODE = "plain"', f'DSN = "host=db.example password={PLANTED}"', "settings.DSN: got an address with a login in it (not shown)"),
    ("44", 'MODE = "plain"', f'NOTE = "{TOKEN}"', "settings.NOTE: got a secret as plain text (not shown)"),
    ("44", "made-up@db/", f"{PLANTED}@db.example/", "e2e.settings.DATABASE_URL: got an address with a login in it (not shown)"),
    ("44", "[e2e.settings]", f'[e2e.settings]\nSTRIPE_API_KEY = "{PLANTED}"', "e2e.settings.STRIPE_API_KEY: got a secret as plain text"),
    ("44", '"playwright", "test"', f'"curl", "-H", "Authorization: {TOKEN}"', "FILE:41 e2e.command: got a secret as plain text"),
    ("44", "[migrations]", f'password = "{PLANTED}"\n[migrations]', "got an unknown key"),
    ("44", 'kind = "web"\ncontext = "api"', f'kind = "{TOKEN}"\ncontext = "api"', "service api.kind: got a value that is not shown"),
    ("44", 'name = "web"', f'name = "{TOKEN}"', "e2e.service: got 'web', expected one of: api, ***"),
    ("46", 'MODE = "plain"', '1A = "x"', "service api.settings.1A: got a name that no variable has"),
    ("46", 'MODE = "plain"', '"A=B" = "x"', "service api.settings.A=B: got a name that no variable has"),
    ("46", '["DATABASE_URL"]', '["A-B"]', "FILE:16 service api.variables: got 'A-B', expected names like DATABASE_URL"),
    ("58", "replicas = 2", "replicas = 0", "FILE:12 service api.replicas: got 0, expected 1 or more"),
    ("58", "replicas = 2", "replicas = -1", "FILE:12 service api.replicas: got -1, expected 1 or more"),
    ("58", "replicas = 2", 'replicas = "two"', "FILE:12 service api.replicas: got 'two', expected a whole number"),
    ("58", "replicas = 2", "replicas = 10000", "FILE:12 service api.replicas: got 10000, expected 1 to 100"),
]  # fmt: skip


@pytest.mark.parametrize(("row", "right", "wrong", "said"), [(row, right, wrong, said) for row, right, wrong, *said in APPLICATIONS])
def test_what_cannot_be_meant_in_a_greenroom_toml_is_named(tmp_path: Path, row: str, right: str, wrong: str, said: list[str]) -> None:
    assert APPLICATION.count(right) >= 1, row
    heard = of_application(tmp_path, APPLICATION.replace(right, wrong, 1))
    assert all(part in heard for part in said), heard


def test_every_mistake_is_told_at_once_and_in_one_message(tmp_path: Path) -> None:
    wrong = (
        APPLICATION.replace("port = 8000", "port = 70000").replace('"/health"', '"//x"').replace('MODE = "plain"', f'TOKEN = "{PLANTED}"')
    )
    assert len(of_application(tmp_path, wrong).splitlines()) == 3
    (tmp_path / "greenroom.toml").write_text("[[service]]\n" * 5000)
    with pytest.raises(InvalidSettings, match=r"\nand \d+ more\. Next: "):
        load_application(tmp_path / "greenroom.toml")


@pytest.mark.parametrize(
    ("where", "line"),
    [
        ("[e2e.settings]", 'ADMIN_PASSWORD = "made-up"'),  # the backing service's own
        ("[e2e.settings]", 'SECRET_KEY = "only-for-the-throw-away-environment"'),
        ("[e2e.settings]", 'OTHER = "postgresql://u:whatever@127.0.0.1:5432/x"'),
        ("[service.settings]", 'OTHER = "postgresql://u:whatever@localhost/x"'),
        ("[service.settings]", 'TOKEN_TTL_SECONDS = "900"'),
        ("[service.settings]", 'USE_TOKEN = "true"'),
        ("[service.settings]", 'TEMPLATE = "{{ password }} $(id) ; rm -rf /"'),  # text, and stays text
    ],
)
def test_what_is_thrown_away_or_no_secret_is_taken(tmp_path: Path, where: str, line: str) -> None:
    file = tmp_path / "greenroom.toml"
    file.write_text(APPLICATION.replace(where, f"{where}\n{line}"))
    load_application(file)
