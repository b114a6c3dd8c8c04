import base64
import html
import json
import logging
import sys
from collections.abc import Iterator
from urllib.parse import quote, quote_plus

import pytest
from hypothesis import given
from hypothesis import strategies as st

from delivery.errors import DeliveryError
from delivery.redaction import HIDDEN, Redactor, Unforeseen, harmless, hide_secrets_in_logs, know, redacted, redacted_within

PEM = "-----BEGIN KEY-----\nMC4CAQAwBQYDK2Vw\nBCIEIH/9+aa0Bx==\n-----END KEY-----\n"
SECRETS = ["correct-horse", 'qu"ote\\and\ttab', "p@ss/word:?&=", "ünïcödé-ßecret", "<&>'amp'", PEM, "postgresql://app:p%40ss-word@db/app"]


@pytest.mark.parametrize("secret", SECRETS)
@pytest.mark.parametrize(
    "spelled",
    [
        str,
        repr,
        json.dumps,
        lambda secret: json.dumps({"said": json.dumps([secret])}),
        lambda secret: quote(secret, safe=""),
        lambda secret: quote(secret, safe="").lower() if secret.islower() else quote(secret),
        quote_plus,
        html.escape,
        lambda secret: base64.b64encode(secret.encode()).decode(),
        lambda secret: base64.urlsafe_b64encode(secret.encode()).decode().rstrip("="),
        lambda secret: base64.encodebytes(secret.encode()).decode(),
    ],
)
def test_a_secret_is_hidden_in_every_spelling(secret: str, spelled: object) -> None:
    said = f"before {spelled(secret)} after"  # type: ignore[operator]
    hidden = Redactor([secret])(said)
    assert HIDDEN in hidden
    assert hidden.startswith("before ")
    assert hidden.endswith(" after")
    assert spelled(secret) not in hidden  # type: ignore[operator]
    for line in secret.splitlines():
        assert line not in hidden


@given(secret=st.text(min_size=10, max_size=40), before=st.binary(max_size=7), after=st.binary(max_size=7))
def test_base64_of_something_longer_shows_a_character_of_a_secret_at_each_end_at_most(secret: str, before: bytes, after: bytes) -> None:
    data = secret.encode()
    told = base64.b64encode(before + data + after).decode()
    left, stars, right = Redactor([secret])(told).partition(HIDDEN)
    assert stars
    assert len(left) + len(right) <= len(told) - len(data) * 8 // 6 + 2


@pytest.mark.parametrize("line", PEM.splitlines())
def test_each_line_of_a_secret_is_hidden_by_itself(line: str) -> None:
    assert Redactor([PEM])(f"a {line} b") == "a *** b"


def test_a_login_in_an_address_is_hidden_though_nobody_knows_it() -> None:
    assert redacted("at https://me:pass-word@host/x and redis://:other@host") == "at https://***@host/x and redis://***@host"


def test_a_value_too_short_to_be_secret_hides_nothing() -> None:
    assert Redactor(["1", "on", ""])("1 is on") == "1 is on"


def test_an_error_never_holds_what_is_known_to_be_secret() -> None:
    know(["correct-horse"])
    error = DeliveryError("It said correct-horse.", next="ask correct-horse.")
    assert (error.what, error.next, error.args) == ("It said ***.", "ask ***.", ("It said ***.",))
    assert "correct-horse" not in repr(error)


def test_an_error_that_nobody_foresaw_is_told_without_its_secret_and_without_its_cause() -> None:
    know(["correct-horse"])
    try:
        try:
            raise KeyError("correct-horse")  # noqa: TRY301
        except KeyError as cause:
            raise ValueError("harmless itself") from cause
    except ValueError as error:
        stand_in = harmless(error)
    assert isinstance(stand_in, Unforeseen)
    assert "correct-horse" not in str(stand_in)
    assert "ValueError: harmless itself" in str(stand_in)


def test_an_error_without_a_secret_stays_itself() -> None:
    know(["correct-horse"])
    error = ValueError("nothing in it")
    assert harmless(error) is error


def test_texts_inside_data_are_redacted_and_the_data_keeps_its_shape() -> None:
    know(["correct-horse", "1234"])
    data = {"correct-horse": ["a correct-horse", 1234, None, {"deep": ("correct-horse",)}]}
    assert redacted_within(data) == {"correct-horse": ["a ***", 1234, None, {"deep": ["***"]}]}


@pytest.fixture
def _logs_hide_secrets() -> Iterator[None]:
    before = logging.getLogRecordFactory()
    hide_secrets_in_logs()
    yield
    logging.setLogRecordFactory(before)


@pytest.mark.usefixtures("_logs_hide_secrets")
def test_every_librarys_log_is_redacted_with_its_traceback(caplog: pytest.LogCaptureFixture) -> None:
    know(["correct-horse"])
    try:
        raise ValueError("correct-horse")  # noqa: TRY301
    except ValueError:
        logging.getLogger("somebody.elses").exception("asked %s with %r", "https://host", {"key": "correct-horse"})
    assert "correct-horse" not in caplog.text
    assert "asked https://host with {'key': '***'}" in caplog.text
    assert "ValueError: ***" in caplog.text


@pytest.mark.usefixtures("_logs_hide_secrets")
def test_a_message_that_does_not_fit_its_arguments_is_loggings_own_business() -> None:
    record = logging.getLogRecordFactory()("x", logging.INFO, "", 0, "%d", ("no number",), sys.exc_info())
    assert record.msg == "%d"


@pytest.mark.usefixtures("_logs_hide_secrets")
def test_hiding_twice_is_once() -> None:
    factory = logging.getLogRecordFactory()
    hide_secrets_in_logs()
    assert logging.getLogRecordFactory() is factory
