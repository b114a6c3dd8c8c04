"""Twelve secrets of different shapes go through a whole release that fails in several places: a check, staging, production, the way back.

Everything that is left behind is searched for each of them, in every spelling: Prefect's database file with logs, artifacts and states, the
journal's file, the work directory, what Slack was sent, what this process logged, and the arguments of every process that ran meanwhile.
"""

import json
import logging
import sqlite3
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, Self
from urllib.parse import quote

import pytest
from prefect import Flow
from prefect.client.orchestration import get_client
from prefect.flow_engine import run_flow
from prefect.logging.handlers import APILogHandler
from prefect.settings import PREFECT_API_URL, temporary_settings

from blocks.local import BLOCK_TYPES, slug_of
from blocks.settings import settings
from delivery.errors import DeliveryError
from flows.assembly import LocalBlocks, blocks_from
from flows.pipeline import pipeline
from flows.promote import promote
from flows.rollback import rollback
from tests.blocks.test_notifier import Slack, slack
from tests.flows.conftest import Stage
from tests.planted_secrets import DATABASE_PASSWORD, SECRETS, searched, spelled
from tests.prefect_stage import prefect_server
from tests.tasks.repository import Repository

KNOWN, SEEN = "what-a-careless-tool-knows", "seen"
__all__ = ["slack"]  # a fixture of the neighbour's
pytestmark = pytest.mark.prefect


def everything() -> str:
    """As a careless program would tell it."""
    return "marked-by-the-test " + " | ".join(text for secret in SECRETS.values() for text in spelled(secret).values())


def toml(sections: dict[str, dict[str, Any]]) -> str:
    lines = []
    for section, values in sections.items():
        lines.append(f"[{section}]")
        lines += [f"{key} = {json.dumps(value, ensure_ascii=False)}" for key, value in values.items()]
    return "\n".join(lines)


@pytest.fixture
def company(stage: Stage, slack: Slack, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Stage]:
    """The house with every secret in the block where it belongs, and an application whose check tells them all."""
    environment = {key: SECRETS[key] for key in list(SECRETS)[2:8]} | {"TOKEN": SECRETS["a plain token"]}
    environment["DATABASE_URL"] = f"postgresql://app:{quote(DATABASE_PASSWORD, safe='')}@db/app"
    slack.token = SECRETS["a Slack token"]
    file = tmp_path / "blocks.toml"
    file.write_text(
        toml(
            {
                "environment-secrets.production": {},
                "environment-secrets.production.values": {f"V{number}": value for number, value in enumerate(environment.values())},
                "slack-notifier.team": {"token": SECRETS["a Slack token"], "channel": "#releases", "api_url": f"{slack.url}api/"},
                "oci-registry.default": {"host": "127.0.0.1:9", "username": "me", "password": SECRETS["a registry's password"]},
                "git-credential.default": {"token": SECRETS["a Git token"]},
                "tool-token.tool": {"variable": "TOOL_TOKEN", "token": SECRETS["a tool's token"]},
            }
        )
    )
    file.chmod(0o600)
    told = tmp_path / "outside" / KNOWN
    told.parent.mkdir()
    told.write_text(everything())
    repository = Repository(tmp_path / "repository")
    # It lives until somebody has looked at its command line, who then leaves a file beside what it knows.
    careless = (
        f"import os, time; until = time.monotonic() + 30; seen = {str(told.with_name(SEEN))!r}\n"
        "while not os.path.exists(seen) and time.monotonic() < until: time.sleep(0.01)\n"
        f"print(open({str(told)!r}).read()); print(os.environ['TOOL_TOKEN']); raise SystemExit(1)"
    )
    repository.commit(
        "One", api__app_py="a = 1\n", greenroom_toml=APPLICATION.replace("COMMAND", json.dumps([sys.executable, "-c", careless]))
    )
    for name in ("staging", "production"):
        policy = stage.environments / f"{name}.toml"
        policy.write_text(policy.read_text().replace("[approval]", 'notifier = "team"\n[approval]', 1))
    monkeypatch.setenv("GREENROOM_BLOCKS_FILE", str(file))
    monkeypatch.setenv("GREENROOM_REPOSITORY", str(repository.path))
    blocks = LocalBlocks.of(settings())
    assert {slug for slug, _ in blocks._blocks} < {slug_of(kind) for kind in BLOCK_TYPES}
    blocks._blocks.update({("docker-target", name): target for name, target in stage.targets.items()})  # type: ignore[attr-defined]
    server = prefect_server()
    ours, handler = logging.getLogger("greenroom"), APILogHandler()
    ours.addHandler(handler)
    with temporary_settings({PREFECT_API_URL: server.api_url}), blocks_from(blocks):
        yield stage
    ours.removeHandler(handler)


APPLICATION = """\
[application]
name = "planted"
[[service]]
name = "worker"
kind = "worker"
context = "api"
dockerfile = "api/Dockerfile"
ready = ["true"]
[[check]]
name = "careless"
command = COMMAND
reads = ["api"]
token = "tool"
"""


class Arguments:
    """Every command line that this machine shows, looked at as often as it goes while the block runs. `found` is made once one of them
    has `wanted` in it.
    """

    def __init__(self, wanted: str, found: Path) -> None:
        self.seen: set[str] = set()
        self._wanted, self._found = wanted, found
        self._end = threading.Event()
        self._thread = threading.Thread(target=self._look, daemon=True)

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._end.set()
        self._thread.join()

    def _look(self) -> None:
        while not self._end.wait(0.02):
            for file in Path("/proc").glob("[0-9]*/cmdline"):
                try:
                    line = file.read_bytes().replace(b"\0", b" ").decode(errors="replace")
                except OSError:
                    continue
                self.seen.add(line)
                if self._wanted in line and line.startswith(sys.executable):
                    self._found.touch()


def run(flow: Flow[..., Any], **parameters: object) -> str:
    with get_client(sync_client=True) as client:
        run = client.create_flow_run(flow, parameters=parameters)
    try:
        state: Any = run_flow(flow, flow_run=run, return_type="state", parameters=run.parameters)  # type: ignore[arg-type]
    finally:
        APILogHandler().flush()
    return f"{state.type.value} {state.message}"


def rows_of(file: Path) -> str:
    """Every value of every table, as text."""
    database = sqlite3.connect(f"file:{file}?mode=ro", uri=True)
    try:
        tables = [name for (name,) in database.execute("SELECT name FROM sqlite_master WHERE type = 'table'")]
        values = [value for table in tables for row in database.execute(f'SELECT * FROM "{table}"') for value in row]  # noqa: S608
    finally:
        database.close()
    return "\n".join(value.decode(errors="replace") if isinstance(value, bytes) else str(value) for value in values)


def files_in(folder: Path) -> str:
    return "\n".join(f"{file}\n{file.read_bytes().decode(errors='replace')}" for file in sorted(folder.rglob("*")) if file.is_file())


def eventually(look: Callable[[], str], wanted: str) -> str:
    """What a look shows once it shows `wanted`: Prefect's server writes logs and events a little later than it takes them."""
    deadline = time.monotonic() + 30
    while wanted not in (shown := look()) and time.monotonic() < deadline:
        time.sleep(0.1)
    assert wanted in shown
    return shown


def careless(kind: type[Exception]) -> Exception:
    return DeliveryError(everything(), next=everything()) if issubclass(kind, DeliveryError) else kind(everything())


def test_no_planted_secret_is_left_anywhere(
    company: Stage, slack: Slack, tmp_path: Path, caplog: pytest.LogCaptureFixture, capfd: pytest.CaptureFixture[str]
) -> None:
    assert len(SECRETS) == 12
    sha = subprocess.run(
        ["git", "rev-parse", "HEAD"], cwd=tmp_path / "repository", capture_output=True, text=True, check=True
    ).stdout.strip()
    ended: list[str] = []
    with Arguments(KNOWN, tmp_path / "outside" / SEEN) as arguments, caplog.at_level(logging.DEBUG):
        ended.append(run(pipeline, sha=sha, until="build"))
        first, second, third = company.on_staging("1.0.0"), company.on_staging("1.1.0"), company.on_staging("1.2.0")
        ended.append(run(promote, release=first.id, kind="hotfix"))
        company.production.fail("promote", 1, careless(DeliveryError))  # type: ignore[arg-type]
        ended.append(run(promote, release=second.id, kind="hotfix"))
        company.production.fail("launch", 1, careless(ValueError))  # type: ignore[arg-type]
        ended.append(run(promote, release=third.id, kind="hotfix"))
        ended.append(run(promote, release=second.id, kind="hotfix"))
        company.production.fail("shift", 1, careless(DeliveryError))  # type: ignore[arg-type]
        ended.append(run(rollback, environment="production", reason="it is slow"))
    prefect = eventually(lambda: rows_of(prefect_server().process.state / "prefect.db"), "careless | marked-by-the-test")
    left = {
        "Prefect's database": prefect,
        "Prefect's database file": files_in(prefect_server().process.state),
        "the journal": rows_of(tmp_path / "journal.db"),
        "the journal's file": (tmp_path / "journal.db").read_bytes().decode(errors="replace"),
        "the work directory": files_in(tmp_path / "work"),
        "Slack": json.dumps(slack.bodies, ensure_ascii=False),
        "logs": caplog.text,
        "the terminal": "".join(capfd.readouterr()),
        "arguments": "\n".join(arguments.seen),
        "how runs ended": "\n".join(ended),
    }
    for place in ("Prefect's database", "the journal", "the work directory", "Slack", "logs", "how runs ended"):
        assert "marked-by-the-test" in left[place], f"nothing was told in {place}, so this test would prove nothing"
    assert KNOWN in left["arguments"]
    found = [
        f"{secret} {how}: {place}: …{text[max(0, text.index(searched(how, spelling)) - 100) :][:160]}…"
        for place, text in left.items()
        for secret, value in SECRETS.items()
        for how, spelling in spelled(value).items()
        if searched(how, spelling) in text
    ]
    assert not found, "\n".join(found)
