"""Documentation that lies is a fault like another: links lead somewhere, commands and settings exist."""

import re
from pathlib import Path

import pytest
import typer.main

from blocks.settings import PREFIX, Settings
from cli.main import app

HOME = Path(__file__).resolve().parents[1]
PAGES = sorted([*HOME.glob("*.md"), *(HOME / "docs").rglob("*.md")])
TEXTS = {str(page.relative_to(HOME)): page.read_text(encoding="utf-8") for page in PAGES}
each_page = pytest.mark.parametrize("page", TEXTS)

# Read by others than the settings: the terminal, the tests, and the option --installation.
OTHER_VARIABLES = {"DEBUG", "TEST_ALL", "INSTALLATION", "REPLAY_DATABASE_URL"}


@each_page
def test_every_link_leads_somewhere(page: str):
    links = re.findall(r"\]\((?!https?://|#|mailto:)([^)#\s]+)", TEXTS[page])
    missing = [link for link in links if not ((HOME / page).parent / link).exists()]
    assert missing == []


@each_page
def test_every_command_that_is_named_exists(page: str):
    known = set(typer.main.get_command(app).commands)  # type: ignore[attr-defined]
    named = set(re.findall(r"(?:^|`|\$ )\s*greenroom ([a-z]+)", TEXTS[page], flags=re.MULTILINE))
    assert named <= known


@each_page
def test_every_make_target_that_is_named_exists(page: str):
    known = set(re.findall(r"^([a-z-]+):", (HOME / "Makefile").read_text(), flags=re.MULTILINE))
    named = set(re.findall(r"(?:^|`|CI=1 )make ([a-z-]+)", TEXTS[page], flags=re.MULTILINE))
    assert named <= known


@each_page
def test_every_setting_that_is_named_exists(page: str):
    known = {name.upper() for name in Settings.model_fields} | OTHER_VARIABLES
    named = set(re.findall(rf"\b{PREFIX}([A-Z_]+)\b", TEXTS[page]))
    assert named <= known


def test_every_setting_is_described():
    described = set(re.findall(rf"^\| `{PREFIX}([A-Z_]+)`", TEXTS["docs/operating.md"], flags=re.MULTILINE))
    assert described == {name.upper() for name in Settings.model_fields}


def test_the_readme_opens_with_exactly_two_commands():
    first_block = re.search(r"```\n(.*?)```", TEXTS["README.md"], flags=re.DOTALL)
    assert first_block
    assert [line.partition("#")[0].strip() for line in first_block[1].splitlines()] == ["make demo", "make test"]


def test_every_test_that_make_test_security_names_exists():
    makefile = (HOME / "Makefile").read_text().replace("\\\n", " ")
    listed = re.search(r"^SECURITY_TESTS := \$\(addprefix tests/,(.*)\)$", makefile, flags=re.MULTILINE)
    assert listed
    names = listed[1].split()
    missing = []
    for name in names:
        path, _, test = name.partition("::")
        file = HOME / "tests" / path
        if not file.exists() or (test and f"def {test}(" not in file.read_text()):
            missing.append(name)
    assert names
    assert missing == []
