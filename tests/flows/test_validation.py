"""What an environment gives keeps a release out before anything is begun; the way back asks nobody."""

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest

from blocks.secrets import EnvironmentSecrets
from cli.main import run
from delivery.errors import InvalidSettings
from delivery.release import Release
from flows.assembly import LocalBlocks
from flows.examination import examine_values
from flows.pipeline import require_ready
from flows.preflight import go_through
from flows.promote import ask
from flows.rollback import go_back
from flows.telling import Telling
from flows.validation import troubles_of
from tests.flows.conftest import Stage
from tests.samples import a_release

KEY, OTHER_KEY = "Qm5xTn9LrWc3KpVd8HsYb2ZfJg7AeUi4", "Zt6wNf4PyBq9RgLm2XvKc8HjDs5EaTu3"
URL = "postgresql://app:{}@db.{}.example/app"


@pytest.fixture
def give(stage: Stage) -> Callable[..., None]:
    """Makes the secrets of an environment."""

    def given(environment: str, **secrets: str) -> None:
        stage.targets[environment].secrets = EnvironmentSecrets(values=secrets)  # type: ignore[attr-defined]

    return given


@pytest.fixture
def needy(stage: Stage, give: Callable[..., None]) -> Release:
    """A release that lives on staging, and needs a database and a key."""
    give("staging", DATABASE_URL=URL.format("word-one", "staging"), SECRET_KEY=KEY)
    give("production", DATABASE_URL=URL.format("word-two", "production"), SECRET_KEY=OTHER_KEY)
    release = a_release("1.0.0", load=None, smoke=())
    services = tuple(replace(one, variables=("DATABASE_URL", "SECRET_KEY")) for one in release.services)
    release = replace(release, services=services)
    stage.house.store.save_release(release)
    stage.bring(release, "staging")
    return release


def wish(stage: Stage, release: Release) -> object:
    return ask(stage.house, release.id, "production", "normal", key="run-1")


def test_a_version_of_a_secret_that_is_not_there_keeps_the_release_out(
    stage: Stage, needy: Release, give: Callable[..., None], edit_environment: Callable[[str, str, str], None]
) -> None:
    versions = {f"DATABASE_URL@{number}": URL.format(f"word-{number}", "production") for number in (1, 2)}
    give("production", SECRET_KEY=OTHER_KEY, **versions)
    edit_environment("production", "[provenance]", '[secrets.DATABASE_URL]\nowner = "Bea"\nversion = 3\n[provenance]')
    with pytest.raises(InvalidSettings, match="version 3 of DATABASE_URL, and the secrets have 1 and 2"):
        wish(stage, needy)


def test_an_environment_that_gives_what_is_needed_takes_the_release(stage: Stage, needy: Release) -> None:
    assert wish(stage, needy)
    assert examine_values(stage.house, "production", "values").verdict == "ok"
    assert stage.bring(needy, "production").message == "Production runs v1.0.0."


WRONG = [
    ({"DATABASE_URL": URL.format("word-two", "production")}, "service api needs SECRET_KEY, which production lacks"),
    ({"DATABASE_URL": "", "SECRET_KEY": OTHER_KEY}, "service api needs DATABASE_URL, which is empty in production"),
    ({"DATABASE_URL": URL.format("word-two", "production"), "SECRET_KEY": "hunter2"}, "SECRET_KEY of production is no key: got 7 bytes"),
    ({"DATABASE_URL": URL.format("word-two", "production"), "SECRET_KEY": KEY}, "SECRET_KEY of production has the secret of SECRET_KEY"),
    ({"DATABASE_URL": URL.format("word-two", "staging"), "SECRET_KEY": OTHER_KEY}, "is the database that staging has as DATABASE_URL"),
    ({"DATABASE_URL": "mysql://app:hunter2@db.production.example/app", "SECRET_KEY": OTHER_KEY}, "not the address of a PostgreSQL"),
    ({"DATABASE_URL": URL.format("word-two", "p"), "SECRET_KEY": OTHER_KEY, "DEBUG": "1"}, "DEBUG is switched on in production"),
]  # fmt: skip


@pytest.mark.parametrize(("secrets", "said"), WRONG)
def test_what_is_wrong_keeps_a_release_out_wherever_it_is_asked_for(
    stage: Stage, needy: Release, give: Callable[..., None], secrets: dict[str, str], said: str
) -> None:
    give("production", **secrets)
    before = list(stage.production.acts)
    with pytest.raises(InvalidSettings) as refused:
        wish(stage, needy)
    with pytest.raises(InvalidSettings, match="Production is unchanged"):
        stage.bring(needy, "production")
    assert refused.value.what.startswith("Production is unchanged. ")
    assert said in refused.value.what
    assert refused.value.next
    assert stage.production.acts == before
    assert stage.house.store.requests(environment="production") == []
    finding = examine_values(stage.house, "production", "values of production")
    assert (finding.verdict, said in finding.evidence) == ("missing", True)
    [item] = [item for item in go_through(stage.house, "production") if item.name == "secrets configured"]
    assert item.verdict == "fail"
    shown = f"{refused.value}{finding}{item}"
    assert not any(value in shown for value in (*secrets.values(), "word-two", "hunter2") if len(value) > 1)


def test_debugging_in_the_file_of_an_environment_is_refused_before_anything_is_built(
    stage: Stage, edit_environment: Callable[[str, str, str], None], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("GREENROOM_REPOSITORY", "https://git.example/shop")
    house = replace(stage.house, settings=stage.house.settings.model_copy(update={"repository": "https://git.example/shop"}))
    edit_environment("production", "[provenance]", '[variables]\nFLASK_DEBUG = "1"\n[provenance]')
    with pytest.raises(InvalidSettings, match="FLASK_DEBUG is switched on in production"):
        require_ready(house, "production")


def test_a_secret_that_the_file_names_may_be_shared(
    stage: Stage, needy: Release, give: Callable[..., None], edit_environment: Callable[[str, str, str], None]
) -> None:
    tracker = {"TRACKER_TOKEN": "of-the-whole-company"}
    give("staging", DATABASE_URL=URL.format("word-one", "staging"), SECRET_KEY=KEY, **tracker)
    give("production", DATABASE_URL=URL.format("word-two", "production"), SECRET_KEY=OTHER_KEY, **tracker)
    with pytest.raises(InvalidSettings, match="TRACKER_TOKEN of production has the secret of TRACKER_TOKEN in staging"):
        wish(stage, needy)
    edit_environment("production", "[provenance]", '[values]\nshared = ["TRACKER_TOKEN"]\n[provenance]')
    assert wish(stage, needy)


def test_the_way_back_asks_nobody_about_values(stage: Stage, needy: Release, give: Callable[..., None]) -> None:
    stage.bring(needy, "production")
    newer = replace(a_release("1.1.0", load=None, smoke=()), services=needy.services)
    stage.house.store.save_release(newer)
    stage.bring(newer, "production")
    give("production", SECRET_KEY="short", DEBUG="1")
    with Telling() as telling:
        record = go_back(stage.house, "production", version=None, reason="it is slow", by="Bea", telling=telling)
    assert record.message.startswith("Production is back on v1.0.0") or record.message.startswith("Production runs v1.0.0")


def test_an_environment_that_cannot_be_seen_hides_nothing_else(stage: Stage, needy: Release) -> None:
    (stage.environments / "broken.toml").write_text("[environment]\nname = 7\n")
    assert wish(stage, needy)


def test_a_plan_is_shown_for_what_can_be_carried_out_only(
    stage: Stage, needy: Release, give: Callable[..., None], monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(LocalBlocks, "of", lambda _settings: stage.house.blocks)
    assert run(["plan", needy.id, "production"]) == 0
    give("production", SECRET_KEY="hunter2")
    capsys.readouterr()
    assert run(["plan", needy.id, "production"]) == 2
    said = capsys.readouterr()
    assert "service api needs DATABASE_URL, which production lacks" in said.err
    assert (said.out, "hunter2" in said.err) == ("", False)


DOCKER = """\
[docker-target.NAME]
environment = "NAME"
network = "NETWORK"
public_url = "http://127.0.0.1:8080"
secrets = "NAME"
traffic = { environment = "NAME", dynamic_dir = "/tmp/dynamic", admin_url = "http://127.0.0.1:8099", entry_point = "NAME" }
[environment-secrets.NAME]
values = { DATABASE_URL = "postgresql+asyncpg://app:word-of-NAME@db:5432/app", REDIS_URL = "redis://:redis-of-NAME@redis:6379/0" }
"""


@pytest.mark.parametrize(("networks", "alike"), [(("one", "two"), 0), (("one", "one"), 2)])
def test_docker_targets_have_databases_of_their_own_unless_they_share_a_network(
    stage: Stage, tmp_path: Path, networks: tuple[str, str], alike: int
) -> None:
    file = tmp_path / "work" / "blocks.toml"
    file.parent.mkdir(exist_ok=True)
    texts = [DOCKER.replace("NAME", name).replace("NETWORK", at) for name, at in zip(("staging", "production"), networks, strict=True)]
    file.write_text("".join(texts))
    file.chmod(0o600)
    house = replace(stage.house, blocks=LocalBlocks.of(stage.house.settings))
    found = troubles_of(house, house.environment("production"))
    assert len(found) == alike
    assert all("is the database that staging has" in trouble.what for trouble in found)
