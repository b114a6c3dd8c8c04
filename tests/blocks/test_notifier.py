"""Slack, against a server that refuses what Slack refuses."""

from collections.abc import Iterator

import pytest
from pydantic import SecretStr, ValidationError

from blocks.notifier import RememberedHere, SlackNotifier
from blocks.slack_blocks import escaped
from delivery.errors import DeliveryError, InvalidSettings, TransientError, TryLater, Undeliverable
from delivery.redaction import know
from tests.slack_server import HOOK, TOKEN, Refusal, Slack, require_fit, slack_server

KEY = "production/production-1"
HOSTILE = "<!channel> <@U123> <#C1> & <http://evil.example|Approve> http://bare.example *x* &lt;!here&gt;"


@pytest.fixture
def slack() -> Iterator[Slack]:
    with slack_server() as state:
        yield state


def a_bot(slack: Slack, **fields: object) -> SlackNotifier:
    wanted = {"token": SecretStr(TOKEN), "channel": "#releases", "api_url": f"{slack.url}api/", **fields}
    return SlackNotifier(**wanted)  # type: ignore[arg-type]


def a_hook(slack: Slack, path: str = HOOK) -> SlackNotifier:
    return SlackNotifier(webhook=SecretStr(f"{slack.url}{path}"))


@pytest.fixture
def bot(slack: Slack) -> SlackNotifier:
    return a_bot(slack)


def test_one_message_tells_of_a_rollout_through_its_life(slack: Slack, bot: SlackNotifier) -> None:
    bot.post(KEY, "it has begun")
    bot.post(f"{KEY}@", "it is at 50 %")
    bot.post(KEY, "it is live")
    assert slack.texts() == ["it is live"]
    assert slack.asked == ["chat.postMessage", "chat.update", "chat.update"]


def test_details_go_into_the_thread_once(slack: Slack, bot: SlackNotifier) -> None:
    bot.post(KEY, "it has begun")
    bot.post(f"{KEY}#steps", "prepare")
    bot.post(f"{KEY}#steps", "prepare, launch")
    assert len(slack.headlines) == 1
    assert [one["text"] for one in slack.replies(slack.headlines[0]["ts"])] == ["prepare, launch"]


def test_what_is_urgent_calls_people_from_the_thread_into_the_channel(slack: Slack) -> None:
    bot = a_bot(slack, escalate_to="here")
    bot.post(KEY, "waits for approval")
    bot.post(f"{KEY}#urgent-waiting", HOSTILE)
    assert slack.messages[-1]["reply_broadcast"] is True
    assert set(slack.mentions()) == {"!here"}


@pytest.mark.parametrize(("whom", "word"), [("channel", "!channel"), ("U12AB", "@U12AB"), ("S12AB", "!subteam^S12AB")])
def test_whom_to_call_is_slacks_own_word(slack: Slack, whom: str, word: str) -> None:
    a_bot(slack, escalate_to=whom).post(f"{KEY}#urgent", "now")
    assert set(slack.mentions()) == {word}


def test_whom_to_call_cannot_be_a_text_of_ones_own(slack: Slack) -> None:
    with pytest.raises(ValidationError):
        a_bot(slack, escalate_to="here> <http://evil")


def test_another_process_updates_the_message_too(slack: Slack, bot: SlackNotifier) -> None:
    places = RememberedHere()
    bot.remember_in(places)
    bot.post("production/request-7", "waits for approval")
    later = a_bot(slack)
    later.remember_in(places)
    later.post("production/request-7", "it is live")
    assert slack.texts() == ["it is live"]


def test_a_message_that_somebody_deleted_is_posted_anew(slack: Slack, bot: SlackNotifier) -> None:
    bot.post(KEY, "one")
    slack.delete(slack.messages[0]["ts"])
    bot.post(KEY, "two")
    bot.post(KEY, "three")
    assert slack.texts() == ["three"]


def test_a_detail_is_told_though_somebody_deleted_its_message(slack: Slack, bot: SlackNotifier) -> None:
    bot.post(KEY, "one")
    slack.delete(slack.messages[0]["ts"])
    bot.post(f"{KEY}#steps", "prepare")
    assert slack.texts() == ["prepare"]


class DiesBeforeTheNote(RememberedHere):
    """Slack took the message, and nobody wrote down where it is."""

    is_dead = False

    def keep_place(self, key: str, place: str) -> None:
        if self.is_dead and not place.startswith("?"):
            raise SystemExit
        super().keep_place(key, place)


@pytest.mark.parametrize("key", [KEY, f"{KEY}#steps"])
def test_a_message_whose_sender_died_before_the_note_is_found_again(slack: Slack, bot: SlackNotifier, key: str) -> None:
    places = DiesBeforeTheNote()
    bot.remember_in(places)
    bot.post("production/production-0", "so that the channel is known")
    if key != KEY:
        bot.post(KEY, "the message")
    before, places.is_dead = len(slack.messages), True
    with pytest.raises(SystemExit):
        bot.post(key, "sent")
    assert len(slack.messages) == before + 1
    places.is_dead = False
    bot.post(key, "sent again")
    assert slack.texts()[before:] == ["sent again"]


def test_without_the_right_to_read_it_is_told_twice_rather_than_never(slack: Slack, bot: SlackNotifier) -> None:
    places = DiesBeforeTheNote()
    bot.remember_in(places)
    slack.scopes = {"chat:write"}
    places.is_dead = True
    with pytest.raises(SystemExit):
        bot.post(KEY, "sent")
    places.is_dead = False
    bot.post(KEY, "sent again")
    assert slack.texts() == ["sent", "sent again"]


def test_what_slack_refused_is_not_looked_for(slack: Slack, bot: SlackNotifier) -> None:
    slack.limited_for = 7
    with pytest.raises(TryLater):
        bot.post(KEY, "text")
    slack.limited_for = None
    bot.post(KEY, "text")
    assert slack.asked == ["chat.postMessage"] * 2


def test_a_webhook_appends_and_leaves_out_what_passes(slack: Slack) -> None:
    hook = a_hook(slack)
    hook.post(KEY, "one", link="http://here")
    hook.post(f"{KEY}@", "at 50 %")
    hook.post(KEY, "two")
    assert slack.texts() == ["one\n<http://here|Open>", "two"]


@pytest.mark.parametrize("link", ["http://here/a|b>c<d", "javascript:alert(1)", "http://here/" + "x" * 5000])
def test_nothing_in_a_notice_mentions_anybody_or_links_elsewhere(slack: Slack, bot: SlackNotifier, link: str) -> None:
    for sender in (bot, a_hook(slack)):
        sender.post(f"{KEY}#plan", HOSTILE, link=link)
    assert slack.mentions() == []
    assert all(found.endswith("|Open") and found.count("|") == 1 and found.startswith("http://here/") for found in slack.links())
    assert all(one["text"]["verbatim"] for message in slack.messages for one in message["blocks"])


def test_a_text_mentions_nobody_and_links_nowhere() -> None:
    assert escaped("<!channel> & <http://evil|good>") == "&lt;!channel&gt; &amp; &lt;http://evil|good&gt;"


def test_what_is_known_to_be_secret_is_not_told_even_when_the_journal_has_kept_it(slack: Slack, bot: SlackNotifier) -> None:
    know(["correct-horse"])
    bot.post(KEY, "it said correct-horse")
    assert slack.messages
    assert "correct-horse" not in str(slack.messages)


@pytest.mark.parametrize("text", ["", "&" * 9_000, "<" * 2_999, "x" * 100_000, "é\n" * 3_000])
def test_however_long_a_text_is_slack_takes_it_and_no_escape_is_torn(slack: Slack, text: str) -> None:
    for sender in (a_bot(slack, escalate_to="here"), a_hook(slack)):
        sender.post(f"{KEY}#urgent", text, link="http://here")
    pieces = [one["text"]["text"] for message in slack.messages for one in message["blocks"]]
    assert not [one for one in pieces if one.replace("&amp;", "").replace("&lt;", "").count("&")]


def test_how_long_slack_wants_to_be_left_alone_is_told(slack: Slack, bot: SlackNotifier) -> None:
    slack.limited_for = 42
    for sender in (bot, a_hook(slack)):
        with pytest.raises(TryLater) as later:
            sender.post(KEY, "text")
        assert later.value.seconds == 42


@pytest.mark.parametrize(("status", "error"), [(503, None), (200, "internal_error")])
def test_what_may_pass_is_told_as_such(slack: Slack, bot: SlackNotifier, status: int, error: str | None) -> None:
    slack.status = status
    if error:
        slack.errors["chat.postMessage"] = error
    with pytest.raises(TransientError):
        bot.post(KEY, "text")


def test_a_notice_that_slack_never_takes_is_told_as_such(slack: Slack, bot: SlackNotifier) -> None:
    slack.errors["chat.postMessage"] = "invalid_blocks"
    with pytest.raises(Undeliverable):
        bot.post(KEY, "text")


@pytest.mark.parametrize("fields", [{"token": SecretStr("xoxb-another")}, {"channel": "#elsewhere"}])
def test_a_refused_token_or_channel_is_named_without_the_token(slack: Slack, fields: dict[str, object]) -> None:
    with pytest.raises(DeliveryError, match=r"invalid_auth|channel_not_found") as refused:
        a_bot(slack, **fields).post(KEY, "text")
    assert not isinstance(refused.value, TransientError | Undeliverable)
    assert "xoxb" not in f"{refused.value!s}{refused.value!r}"


def test_a_refused_webhook_is_named_without_its_path(slack: Slack) -> None:
    with pytest.raises(DeliveryError, match="no_service") as refused:
        a_hook(slack, "hook/T1/B1/wrong-secret").post(KEY, "text")
    assert "wrong-secret" not in str(refused.value)


def test_a_dead_slack_is_a_transient_error_without_the_address() -> None:
    hook = SlackNotifier(webhook=SecretStr("http://127.0.0.1:9/secret-path"), timeout_seconds=1)
    with pytest.raises(TransientError) as dead:
        hook.post(KEY, "text")
    assert "secret-path" not in str(dead.value)


@pytest.mark.parametrize("fields", [{}, {"token": "t"}, {"channel": "c"}, {"token": "t", "channel": "c", "webhook": "https://x"}])
def test_a_notifier_has_exactly_one_way(fields: dict[str, str]) -> None:
    with pytest.raises(InvalidSettings, match="neither or both"):
        SlackNotifier(**fields)  # type: ignore[arg-type]


SECTION = {"type": "section", "text": {"type": "mrkdwn", "text": "x"}}


@pytest.mark.parametrize(
    "blocks",
    [
        [SECTION] * 51,
        [{"type": "section", "text": {"type": "mrkdwn", "text": "x" * 3001}}],
        [{"type": "section", "text": {"type": "mrkdwn", "text": ""}}],
        [{"type": "section", "fields": [SECTION["text"]] * 11}],
        [{"type": "section", "fields": [{"type": "mrkdwn", "text": "x" * 2001}]}],
        [{"type": "header", "text": {"type": "plain_text", "text": "x" * 151}}],
        [{"type": "header", "text": {"type": "mrkdwn", "text": "x"}}],
        [{"type": "actions", "elements": [{"type": "button", "text": {"type": "plain_text", "text": "x"}, "action_id": "x" * 256}]}],
        [{**SECTION, "block_id": "same"}, {**SECTION, "block_id": "same"}],
        [{"type": "unknown"}],
    ],
)
def test_the_server_of_these_tests_refuses_what_slack_refuses(blocks: list[dict[str, object]]) -> None:
    require_fit({"text": "x", "blocks": [SECTION] * 50})
    with pytest.raises(Refusal):
        require_fit({"text": "x", "blocks": blocks})
