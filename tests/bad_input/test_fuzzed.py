"""Whatever is changed in a sound file, and whatever is said to a parser, a form or a notifier: a value, or a clean refusal."""

import contextlib
import copy
import json
import string
import tomllib
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st
from pydantic import SecretStr, TypeAdapter, ValidationError

from blocks.notifier import SlackNotifier, seconds_to_wait
from blocks.settings import load_application, load_environment
from blocks.webhook import WebhookNotifier
from delivery.errors import DeliveryError, InvalidSettings
from delivery.image import ImageRef
from delivery.source import Semver, Sha
from flows.parameters import CommitId, EnvironmentName, ReleaseId, RolloutId, VersionText
from flows.promote import ApprovalForm, SignedApprovalForm
from tasks.source import checkout
from tests.bad_input.answering import answering
from tests.bad_input.samples import APPLICATION, PLANTED, PRODUCTION, STAGING, TOKEN
from tests.tasks.repository import Repository

ROOT = Path(__file__).resolve().parents[2]
FILES = {
    "shop": APPLICATION,
    "dealbrain": (ROOT / "examples" / "dealbrain" / "greenroom.toml").read_text(),
    "production": (ROOT / "deployments" / "environments" / "production.toml").read_text(),
    "staging": (ROOT / "deployments" / "demo" / "environments" / "staging.toml").read_text(),
}
FOLDER = settings(suppress_health_check=[HealthCheck.function_scoped_fixture])

# What shells, templates, URLs, Git and people trip over, in any order.
WORDS = st.sampled_from([
    *(";", "$(touch marker)", "`touch marker`", "{{ x }}", "${HOME}", "\n", "\r\n", "\0", "-", "--", "..", "/", "@", ":", "*", "~"),
    *("'", '"', "é", "٣", "²", "\u2028", "\u202e", "\U0001f600", "v1.2.3", "1", "a" * 40, "a", "production", "sha256:", " "),
    *("\t", "%00", "\\"),
])  # fmt: skip
NASTY = st.lists(WORDS, max_size=6).map("".join) | st.text(max_size=30)
VALUES: st.SearchStrategy[Any] = st.recursive(
    st.none().map(lambda _: "") | st.booleans() | st.integers(-(2**70), 2**70) | st.floats() | NASTY | st.just(PLANTED) | st.just(TOKEN),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(NASTY, inner, max_size=3),
    max_leaves=5,
)


def toml_of(value: Any) -> str:
    """A value on one line, as TOML has it."""
    match value:
        case bool():
            return str(value).lower()
        case str():
            return json.dumps(value)
        case dict():
            return "{" + ", ".join(f"{json.dumps(key)} = {toml_of(inner)}" for key, inner in value.items()) + "}"
        case list():
            return "[" + ", ".join(map(toml_of, value)) + "]"
        case _:
            return str(value)


def places_in(value: Any, place: tuple[Any, ...] = ()) -> list[tuple[Any, ...]]:
    inner = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
    return [place, *(found for key, one in inner for found in places_in(one, (*place, key)))]


def changed(document: Any, data: st.DataObject) -> Any:
    """The document with something deleted, of another kind, in another place, or there that was not."""
    place = data.draw(st.sampled_from(places_in(document)[1:] or [()]))
    if not place:
        return document
    holder = document
    for part in place[:-1]:
        holder = holder[part]
    last = place[-1]
    match data.draw(st.sampled_from(["delete", "replace", "insert", "swap", "plant"])):
        case "delete":
            del holder[last]
        case "replace":
            holder[last] = data.draw(VALUES)
        case "plant":
            holder[last] = data.draw(st.sampled_from([PLANTED, f"postgresql://me:{PLANTED}@db.example/x", TOKEN, f"https://{PLANTED}@h/"]))
        case "insert":
            if isinstance(holder, dict):
                holder[data.draw(st.sampled_from([*holder, "colour"])) + data.draw(st.sampled_from(["", "s"]))] = data.draw(VALUES)
            else:
                holder.insert(last, data.draw(VALUES))
        case "swap":
            other = data.draw(st.sampled_from(list(holder) if isinstance(holder, dict) else range(len(holder))))
            holder[last], holder[other] = holder[other], holder[last]
    return document


def refusal_of(act: Callable[[], object]) -> InvalidSettings | None:
    """None when it takes what it is given; any other error than a refusal is the caller's."""
    try:
        act()
    except InvalidSettings as refused:
        return refused
    return None


def is_value_or_clean_refusal(folder: Path, text: str, name: str) -> None:
    file = folder / f"{name}.toml"
    file.write_bytes(text.encode("utf-8", "surrogatepass"))
    is_environment = name in ("production", "staging")
    refused = refusal_of(lambda: load_environment(name, folder) if is_environment else load_application(file).checks)
    if refused is not None:
        assert refused.what.startswith(str(file))
        assert refused.next
        assert TOKEN not in str(refused)
        assert f"{PLANTED}@" not in str(refused)


@pytest.mark.parametrize("name", FILES)
@given(data=st.data())
@FOLDER
def test_a_sound_file_that_was_changed_is_a_value_or_a_clean_refusal(tmp_path: Path, name: str, data: st.DataObject) -> None:
    (tmp_path / "staging.toml").write_text(STAGING)
    document = copy.deepcopy(tomllib.loads(FILES[name]))
    for _ in range(data.draw(st.integers(1, 4))):
        document = changed(document, data)
    is_value_or_clean_refusal(tmp_path, "\n".join(f"{json.dumps(key)} = {toml_of(value)}" for key, value in document.items()), name)


@pytest.mark.parametrize("name", FILES)
@given(data=st.data())
@FOLDER
def test_a_sound_text_that_was_cut_and_written_into_is_a_value_or_a_clean_refusal(tmp_path: Path, name: str, data: st.DataObject) -> None:
    (tmp_path / "staging.toml").write_text(STAGING)
    text = FILES[name]
    for _ in range(data.draw(st.integers(1, 3))):
        start = data.draw(st.integers(0, len(text)))
        text = text[:start] + data.draw(NASTY) + text[start + data.draw(st.integers(0, 30)) :]
    is_value_or_clean_refusal(tmp_path, text, name)


PLAIN = frozenset(string.ascii_letters + string.digits + "._-/:@")


def spoken(parsed: object) -> None:
    assert set(str(parsed)) <= PLAIN


@given(NASTY)
@example("1.2.3\n")
@example("1٣.2.3")
@example("1.2.1٣")
@example("1.2.3-" + "9" * 5000)
@example("a" * 40 + "\n")
@example("127.0.0.1:5000/x@sha256:" + "0" * 64 + "\n")
def test_a_parsed_name_holds_nothing_that_a_shell_a_template_or_a_tag_would_read(text: str) -> None:
    for parse in (Semver.parse, Sha, ImageRef.parse):
        refused = refusal_of(lambda parse=parse: spoken(parse(text)))
        assert len(str(refused)) < 600 if refused else set(text) <= PLAIN and len(text) < 300
    for kind in (CommitId, VersionText, ReleaseId, EnvironmentName, RolloutId):
        with contextlib.suppress(ValidationError):
            spoken(TypeAdapter(kind).validate_python(text))


@given(NASTY)
@FOLDER
def test_an_environment_is_a_name_of_a_file_and_never_a_path(tmp_path: Path, name: str) -> None:
    (tmp_path / "production.toml").write_text(PRODUCTION)
    (tmp_path / "staging.toml").write_text(STAGING)
    refused = refusal_of(lambda: load_environment(name, tmp_path))
    assert name in ("production", "staging") if refused is None else refused.what.startswith("Unknown environment: got ")
    assert sorted(file.name for file in tmp_path.iterdir()) == ["production.toml", "staging.toml"]


@pytest.mark.parametrize("hostile", ["v9.9.9$(touch${IFS}marker)", "v9.9.9;touch", "`touch-marker`", "{{7}}", "v9.9.٩", "-x", "é"])
def test_tags_branches_and_subjects_of_a_commit_are_words_and_nothing_is_run(tmp_path: Path, hostile: str) -> None:
    repository = Repository(tmp_path / "repository")
    sha = repository.commit(f"{hostile} $(touch {tmp_path}/marker) `touch {tmp_path}/marker`", app_py="a = 1\n")
    repository.tag("v1.0.0")
    repository.git("update-ref", f"refs/tags/{hostile}", "HEAD")
    repository.git("update-ref", f"refs/heads/{hostile}", "HEAD")
    source = checkout.plain(str(repository.path), sha, work_dir=tmp_path / "work")
    assert source.last_tag == Semver(1, 0, 0)
    assert source.commits[0].startswith(hostile)
    assert list(tmp_path.rglob("marker*")) == []


FORM = st.fixed_dictionaries(
    {},
    optional={
        "decision": st.sampled_from(["approve", "reject"]) | NASTY,
        "approver": NASTY | st.integers() | st.none(),
        "reason": NASTY | st.text(min_size=501, max_size=510),
        "channel": st.sampled_from(["ui", "cli", "api", "policy"]) | NASTY,
        "signature": NASTY,
        "colour": NASTY,
    },
)


@pytest.mark.parametrize("form", [ApprovalForm, SignedApprovalForm])
@given(answer=FORM)
@example(answer={"decision": "approve", "approver": " \n"})
@example(answer={"decision": "approve", "approver": "Bea", "channel": "policy"})
def test_an_answer_at_the_gate_is_by_somebody_and_one_of_two_words(form: type[ApprovalForm], answer: dict[str, Any]) -> None:
    try:
        said = form.model_validate(answer)
    except ValidationError:
        return
    assert said.decision in ("approve", "reject")
    assert said.channel in ("ui", "cli", "api")
    assert " ".join(said.approver.split())
    assert len(said.reason) <= 500


HEADERS = st.sampled_from(["", "5", "²", "-1", "nan", "1e400", "9" * 400, "Wed, 21 Oct 2026 07:28:00 GMT"])


@given(
    status=st.sampled_from([200, 204, 301, 400, 403, 408, 413, 422, 429, 500, 503]),
    body=st.sampled_from(
        [b"", b"ok", b"{}", b"[]", b"null", b'{"ok": true}', b'{"ok": false}', b'{"ok": true, "ts": 5}', b"\xff\xfe", b"<html>"]
    )
    | st.binary(max_size=40),
    after=HEADERS,
)
def test_whatever_slack_or_a_webhook_answers_is_a_yes_or_an_error_that_the_outbox_knows(status: int, body: bytes, after: str) -> None:
    with answering(status, body, {"Retry-After": after}) as url:
        for notifier in (
            SlackNotifier(token=SecretStr(PLANTED), channel="C1", api_url=f"{url}/api/"),
            SlackNotifier(webhook=SecretStr(f"{url}/{PLANTED}")),
            WebhookNotifier(url=SecretStr(f"{url}/{PLANTED}")),
        ):
            said = ""
            try:
                notifier.post("production/request-7", "it waits")
            except DeliveryError as refused:
                said = str(refused)
            assert PLANTED not in said


@given(st.text(max_size=20) | HEADERS)
def test_a_wait_that_somebody_asks_for_is_within_reason(said: str) -> None:
    assert 0 <= seconds_to_wait({"retry-after": said}) <= 3600
