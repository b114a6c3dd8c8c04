import os
import traceback
from pathlib import Path

import pytest

from blocks.settings import environment_names, load_application, load_environment, settings
from delivery.application import Application
from delivery.environment import Environment
from delivery.errors import InvalidSettings
from delivery.triggers import Trigger

ROOT = Path(__file__).resolve().parents[2]


@pytest.fixture(autouse=True)
def nothing_is_set(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in list(os.environ):
        if name.startswith("GREENROOM_") or name == "XDG_DATA_HOME":
            monkeypatch.delenv(name)


# this installation


def test_nothing_needs_to_be_set(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("HOME", str(tmp_path))
    read = settings()
    assert read.work_dir == tmp_path / ".local/share/greenroom"
    assert read.database_url.get_secret_value() == f"sqlite:///{tmp_path}/.local/share/greenroom/journal.db"
    assert read.environments_dir == ROOT / "deployments" / "environments"
    assert read.local_blocks_file == read.work_dir / "blocks.toml"
    assert (read.repository, read.main_branch, read.registry, read.base_images) == ("", "main", "default", {})


def test_the_work_directory_carries_what_is_not_set_itself(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("XDG_DATA_HOME", str(tmp_path))
    assert settings().work_dir == tmp_path / "greenroom"
    monkeypatch.setenv("GREENROOM_WORK_DIR", str(tmp_path / "elsewhere"))
    assert settings().database_url.get_secret_value() == f"sqlite:///{tmp_path}/elsewhere/journal.db"


def test_settings_are_read_anew_each_time(monkeypatch: pytest.MonkeyPatch) -> None:
    for branch in ("main", "trunk"):
        monkeypatch.setenv("GREENROOM_MAIN_BRANCH", branch)
        assert settings().main_branch == branch


def test_an_empty_variable_is_as_good_as_none(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("GREENROOM_DATABASE_URL", "")
    assert settings().database_url.get_secret_value().startswith("sqlite:///")


def test_no_file_is_read_behind_anyones_back(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    (tmp_path / ".env").write_text("GREENROOM_MAIN_BRANCH=surprise\n")
    monkeypatch.chdir(tmp_path)
    assert settings().main_branch == "main"


def test_base_images_are_a_json_object(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("GREENROOM_BASE_IMAGES", '{"python:3.11": "local/python:3.11"}')
    assert settings().base_images == {"python:3.11": "local/python:3.11"}


def test_all_wrong_variables_are_told_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("GREENROOM_LEASE_TTL_SECONDS", "soon")
    monkeypatch.setenv("GREENROOM_UI_URL", "127.0.0.1:4200")
    monkeypatch.setenv("GREENROOM_MAIN_BRANC", "trunk")
    with pytest.raises(InvalidSettings) as refused:
        settings()
    assert refused.value.what.splitlines() == [
        "GREENROOM_MAIN_BRANC: got an unknown setting, expected GREENROOM_MAIN_BRANCH (did you mean it?)",
        "GREENROOM_LEASE_TTL_SECONDS: got 'soon', expected a number",
        r"GREENROOM_UI_URL: got '127.0.0.1:4200', expected pattern '^https?://\S+$'",
    ]


@pytest.mark.parametrize("seconds", ["0", "-1", "nan", "inf", "100000"])
def test_a_lease_lasts_from_a_second_to_an_hour(monkeypatch: pytest.MonkeyPatch, seconds: str) -> None:
    monkeypatch.setenv("GREENROOM_LEASE_TTL_SECONDS", seconds)
    with pytest.raises(InvalidSettings, match=f"GREENROOM_LEASE_TTL_SECONDS: got '{seconds}'"):
        settings()


def test_text_that_is_not_json_is_told_by_its_variable(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("GREENROOM_BASE_IMAGES", "{python")
    with pytest.raises(InvalidSettings, match="GREENROOM_BASE_IMAGES: got text that is not JSON"):
        settings()


def test_a_wrong_database_url_is_told_and_never_shown(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("GREENROOM_DATABASE_URL", "mysql://user:sekret@host/db")
    with pytest.raises(InvalidSettings, match="GREENROOM_DATABASE_URL: got a value that is not shown, expected sqlite:///") as refused:
        settings()
    assert "sekret" not in "".join(traceback.format_exception(refused.value))


def test_a_database_url_is_not_shown_by_the_settings_themselves(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("GREENROOM_DATABASE_URL", "postgresql://user:sekret@host/db")
    assert "sekret" not in repr(settings()) + str(settings()) + settings().model_dump_json()


# files


ENVIRONMENT = """\
[environment]
name = "production"
target = "docker"

[traffic]
steps = [10, 100]
watch_seconds = 30

[[trigger]]
metric = "error_rate"
threshold = 0.05
for_seconds = 120

[[trigger]]
metric = "restarts"
threshold = 0
for_seconds = 0
"""


def written(folder: Path, text: str, name: str = "production") -> Path:
    file = folder / f"{name}.toml"
    file.write_text(text)
    return file


def complaints(folder: Path, text: str, name: str = "production") -> list[str]:
    """What is told about an environment file, without the path that each line begins with."""
    file = written(folder, text, name)
    with pytest.raises(InvalidSettings) as refused:
        load_environment(name, folder)
    lines = refused.value.what.splitlines()
    assert all(line.startswith(str(file)) for line in lines)
    return [line.removeprefix(str(file)) for line in lines]


def test_an_environment_file_is_read(tmp_path: Path) -> None:
    written(tmp_path, ENVIRONMENT)
    environment = load_environment("production", tmp_path)
    assert isinstance(environment, Environment)
    assert environment.traffic.steps == (10, 100)
    assert environment.trigger == (Trigger("error_rate", 0.05, 120), Trigger("restarts", 0, 0))


def test_the_environment_files_of_this_repository_are_sound() -> None:
    folder = ROOT / "deployments" / "environments"
    names = environment_names(folder)
    assert [load_environment(name, folder).name for name in names] == names


def test_the_example_applications_file_is_sound() -> None:
    application = load_application(ROOT / "examples" / "dealbrain" / "greenroom.toml")
    assert isinstance(application, Application)
    assert {service.name for service in application.service} == {"api", "web", "worker"}


@pytest.mark.parametrize(
    ("lines", "complaint"),
    [
        ('method = "HEAD"', "smoke[4].method: got 'HEAD', expected one of 'GET', 'POST', 'PUT', 'PATCH' or 'DELETE'"),
        ('body = { a = "1" }', "smoke.body: got a body for GET /x, expected one for POST, PUT, PATCH or DELETE only"),
        ('method = "POST"\nbody = { a = [inf] }', "smoke[4].body.a[1]: got inf, expected a finite number"),
        ('method = "POST"\nbody = { a = 2026-01-01 }', "smoke[4].body.a: got the date or time 2026-01-01, expected text"),
    ],
)
def test_a_smoke_request_that_cannot_be_sent_is_refused(tmp_path: Path, lines: str, complaint: str) -> None:
    text = (ROOT / "examples" / "dealbrain" / "greenroom.toml").read_text()
    (tmp_path / "greenroom.toml").write_text(f'{text}\n[[smoke]]\nservice = "api"\npath = "/x"\n{lines}\n')
    with pytest.raises(InvalidSettings) as raised:
        load_application(tmp_path / "greenroom.toml")
    assert complaint in raised.value.what


def test_every_mistake_is_told_at_once_with_its_line(tmp_path: Path) -> None:
    text = """\
[environment]
name = "production"
targte = "docker"

[traffic]
steps = [
  10,
  "a lot",
]
watch_seconds = "five minutes"

[variables]
RELEASED = 2025-11-20
VERSION = 1.10

[[trigger]]
metric = "error_rate"
threshold = 0.05
for_seconds = 120

[[trigger]]
metric = "weather"
threshold = nan
"""
    assert complaints(tmp_path, text) == [
        ":1 environment.target: got nothing, expected this key",
        ":3 environment.targte: got an unknown key, expected one of: name, target, notifier, after (did you mean target?)",
        ":6 traffic.steps[2]: got 'a lot', expected a whole number",
        ":10 traffic.watch_seconds: got 'five minutes', expected a number",
        ":13 variables.RELEASED: got the date or time 2025-11-20, expected text in quotes or a number",
        ":14 variables.VERSION: got 1.1, expected text in quotes",
        ":21 trigger[2].for_seconds: got nothing, expected this key",
        (
            ":22 trigger[2].metric: got 'weather', expected one of 'error_rate', 'p95_ms', 'cpu', 'memory', 'database_lost', 'log_pattern'"
            ", 'restarts' or 'gauge'"
        ),
        ":23 trigger[2].threshold: got nan, expected a finite number",
    ]


@pytest.mark.parametrize(
    ("line", "complaint"),
    [
        ("quorum = true", ":20 approval.quorum: got true, expected a whole number"),
        ("quorum = 1.0", ":20 approval.quorum: got 1.0, expected a whole number"),
        ('quorum = "1"', ":20 approval.quorum: got '1', expected a whole number"),
        ("quorum = 0", ":20 approval.quorum: got 0, expected 1 or more"),
        ("author_may_approve = 1", ":20 approval.author_may_approve: got 1, expected true or false"),
        ('automatic_for = "hotfix"', ":20 approval.automatic_for: got 'hotfix', expected a list"),
        ('allowed_signers = "../people"', ":20 approval.allowed_signers: got '../people', expected the name of a file, without folders"),
        ('automatic_for = ["normal"]', ":20 approval.automatic_for[1]: got 'normal', expected one of 'hotfix'"),
    ],
)
def test_a_value_of_another_kind_is_not_bent_into_shape(tmp_path: Path, line: str, complaint: str) -> None:
    assert complaints(tmp_path, f"{ENVIRONMENT}\n[approval]\n{line}\n") == [complaint]


def test_an_unknown_table_is_told_with_the_known_ones(tmp_path: Path) -> None:
    (complaint,) = complaints(tmp_path, ENVIRONMENT + "\n[trafic]\nsteps = [100]\n")
    assert complaint.startswith(":19 trafic: got an unknown key, expected one of: environment, approval, traffic,")
    assert complaint.endswith("(did you mean traffic?)")


def test_contradictions_are_told_with_their_lines(tmp_path: Path) -> None:
    text = ENVIRONMENT.replace("[10, 100]", "[50, 10]").replace("watch_seconds = 30", "watch_seconds = -1")
    assert complaints(tmp_path, text) == [
        ":6 traffic.steps: got [50, 10], expected rising percentages that end at 100",
        ":7 traffic.watch_seconds: got -1.0, expected 0 or more",
    ]


def test_a_name_that_is_not_the_files_is_refused(tmp_path: Path) -> None:
    assert complaints(tmp_path, ENVIRONMENT, "staging") == [
        ":2 environment.name: got 'production', expected 'staging', the file's own name"
    ]


@pytest.mark.parametrize("after", ["staging", "production"])
def test_an_environment_comes_after_another_one_that_is_there(tmp_path: Path, after: str) -> None:
    text = ENVIRONMENT.replace('target = "docker"', f'target = "docker"\nafter = "{after}"')
    assert complaints(tmp_path, text) == [f":4 environment.after: got '{after}', expected another environment: no other is there"]
    written(tmp_path, ENVIRONMENT.replace('"production"', '"staging"'), "staging")
    if after == "staging":
        assert load_environment("production", tmp_path).environment.after == "staging"


@pytest.mark.parametrize("name", ["prodction", "Production", "../production", "", "production.toml"])
def test_an_unknown_environment_is_refused_with_the_known_ones(tmp_path: Path, name: str) -> None:
    written(tmp_path, ENVIRONMENT)
    with pytest.raises(InvalidSettings, match=r"Unknown environment: got .*, expected one of: production"):
        load_environment(name, tmp_path)


def test_a_near_miss_gets_a_hint(tmp_path: Path) -> None:
    written(tmp_path, ENVIRONMENT)
    with pytest.raises(InvalidSettings, match=r"Did you mean production\?"):
        load_environment("prodction", tmp_path)


def test_only_files_that_can_be_environments_are_environments(tmp_path: Path) -> None:
    for name in ("production", "Staging", "1st", "a" * 32, "eu-west-1"):
        written(tmp_path, ENVIRONMENT, name)
    (tmp_path / "notes.md").write_text("")
    assert environment_names(tmp_path) == ["eu-west-1", "production"]


@pytest.mark.parametrize(
    ("text", "place"), [("[environment\n", ":1"), ('[environment]\nname = "a"\nname = "b"\n', ":3"), ("\n\nx = = 1\n", ":3")]
)
def test_a_file_that_is_not_toml_is_told_with_its_line(tmp_path: Path, text: str, place: str) -> None:
    (complaint,) = complaints(tmp_path, text)
    assert complaint.startswith(f"{place}: not TOML: ")


def test_a_file_that_is_not_there_or_not_text_is_told(tmp_path: Path) -> None:
    with pytest.raises(InvalidSettings, match="There is no file"):
        load_application(tmp_path / "greenroom.toml")
    (tmp_path / "greenroom.toml").write_bytes(b"\xff\xfe")
    with pytest.raises(InvalidSettings, match="cannot be read"):
        load_application(tmp_path / "greenroom.toml")


def test_an_applications_contradictions_name_the_service(tmp_path: Path) -> None:
    file = tmp_path / "greenroom.toml"
    file.write_text(
        """\
[application]
name = "dealbrain"

[[service]]
name = "api"
kind = "web"
context = "api"
dockerfile = "api/Dockerfile"
port = 8000
routes = ["/"]
health = "/health"

[[service]]
name = "worker"
kind = "worker"
context = "api"
dockerfile = "api/Dockerfile"
replicas = 0

[migrations]
service = "db"
"""
    )
    with pytest.raises(InvalidSettings) as refused:
        load_application(file)
    assert refused.value.what.splitlines() == [
        f"{file}:13 service worker.ready: got no command, expected one that exits 0 when the worker takes jobs",
        f"{file}:18 service worker.replicas: got 0, expected 1 or more",
        f"{file}:21 migrations.service: got 'db', expected one of: api, worker",
    ]


CHECKED = """\
[application]
name = "dealbrain"

[[service]]
name = "worker"
kind = "worker"
context = "api"
dockerfile = "api/Dockerfile"
ready = ["true"]

[[check]]
name = "bandit"
command = ["bandit", "--output", "{report}"]
report = "bandit"
fails_at = "medium"

[[waiver]]
check = "bandit"
rule = "B608"
reason = "a constant"
owner = "mia"
until = "2026-12-31"
"""


@pytest.mark.parametrize(
    ("right", "wrong", "complaint"),
    [
        ('"medium"', '"terrible"', ":15 check bandit.fails_at: got 'terrible', expected 'low', 'medium', 'high' or 'critical'"),
        (
            'report = "bandit"\n',
            'report = "bandito"\n',
            ":14 check bandit.report: got 'bandito', expected one of 'ruff', 'eslint', 'bandit',",
        ),
        ('report = "bandit"\n', "", ":13 check bandit.command: got {report} without `report`, expected the report's kind too: ruff,"),
        ('["bandit", "--output", "{report}"]', "[]", ":13 check bandit.command: got an empty list, expected a program and its arguments"),
        ('fails_at = "medium"', "fresh_hours = 0", ":15 check bandit.fresh_hours: got 0, expected 1 or more"),
        ('check = "bandit"', 'check = "bandito"', ":18 waiver.check: got 'bandito', expected one of: bandit"),
        ('owner = "mia"\n', "", "waiver[1].owner: got nothing, expected this key"),
        ('owner = "mia"', 'owner = ""', " waiver of B608 in bandit: got no owner, expected one"),
        ('"2026-12-31"', '"some day"', ":22 waiver[1].until: got 'some day', expected a day like 2026-12-31"),
        ('"2026-12-31"', '"20261231"', ":22 waiver[1].until: got '20261231', expected a day like 2026-12-31"),
        ('"2026-12-31"', "2026-12-31", ":22 waiver[1].until: got the date or time 2026-12-31, expected text in quotes"),
        (
            'owner = "mia"',
            'owner = "mia"\nforever = true',
            ":22 waiver[1].forever: got an unknown key, expected one of: reason, owner, until, check,",
        ),
    ],
)
def test_what_cannot_be_meant_of_checks_and_waivers_is_refused(tmp_path: Path, right: str, wrong: str, complaint: str) -> None:
    assert right in CHECKED
    file = tmp_path / "greenroom.toml"
    file.write_text(CHECKED)
    assert load_application(file).check[0].report == "bandit"
    file.write_text(CHECKED.replace(right, wrong, 1))
    with pytest.raises(InvalidSettings) as refused:
        load_application(file)
    assert complaint in refused.value.what


def test_an_extra_ca_that_is_not_there_is_refused(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("GREENROOM_EXTRA_CA", str(tmp_path / "nowhere.pem"))
    with pytest.raises(InvalidSettings, match="EXTRA_CA"):
        settings()
