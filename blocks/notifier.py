"""Telling people in Slack. Notices wait in the journal's outbox; a Slack that is dead costs a release nothing."""

import logging
import time
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from prefect.blocks.core import Block
from pydantic import ConfigDict, Field, PrivateAttr, SecretStr, field_validator, model_validator

from blocks.slack_blocks import blocks_of, words_of
from delivery.addresses import why_not
from delivery.errors import DeliveryError, InvalidSettings, TransientError, TryLater, Undeliverable
from delivery.notices import is_detail, is_passing, is_urgent, message_of
from delivery.ports import Notifier, Places
from delivery.redaction import redacted

if TYPE_CHECKING:
    from slack_sdk import WebClient

log = logging.getLogger("greenroom.notifier")

# Answers of Slack that another try, later, may turn into a success.
PASSING = frozenset({"ratelimited", "rate_limited", "fatal_error", "internal_error", "service_unavailable", "request_timeout"})
GONE = frozenset({"message_not_found", "cant_update_message", "edit_window_closed", "thread_not_found"})
REFUSED = frozenset(
    {"invalid_blocks", "invalid_blocks_format", "msg_blocks_too_long", "msg_too_long", "no_text", "invalid_metadata_format"}
)
EVENT = "greenroom_notice"
# How far this machine's clock may be ahead of Slack's when a lost message is looked for.
CLOCK_SECONDS = 300


class RememberedHere:
    """Places for as long as the process lives."""

    def __init__(self) -> None:
        self._places: dict[str, str] = {}

    def place_of(self, key: str) -> str | None:
        return self._places.get(key)

    def keep_place(self, key: str, place: str) -> None:
        self._places[key] = place


class SlackNotifier(Block):
    """A Slack channel, reached by a bot token (one message per rollout, updated as it goes on) or a webhook (one message per notice).

    A bot needs the scope chat:write and must be in the channel; with channels:history (groups:history where it is private) a message
    whose sender died before it was noted is found again instead of posted twice. `escalate_to` is called when something is urgent: `here`,
    `channel`, or the id of a person or user group.
    """

    model_config = ConfigDict(hide_input_in_errors=True)

    _block_type_name = "Slack notifier"
    _block_type_slug = "slack-notifier"
    _description = "Tells people how releases go."

    token: SecretStr | None = None
    channel: str | None = None
    webhook: SecretStr | None = None
    api_url: str = "https://slack.com/api/"
    timeout_seconds: int = 5
    escalate_to: str | None = Field(default=None, pattern=r"^(here|channel|[UWS][A-Z0-9]{2,20})$")

    _places: Places = PrivateAttr(default_factory=RememberedHere)

    @field_validator("webhook", "api_url")
    @classmethod
    def _is_private(cls, address: SecretStr | str | None) -> SecretStr | str | None:
        if address is not None and (why := why_not(_plain(address), secret=True)):
            raise ValueError(why)
        return address

    @model_validator(mode="after")
    def _has_one_way(self) -> "SlackNotifier":
        if bool(self.token and self.channel) == bool(self.webhook):
            raise InvalidSettings(
                "A Slack notifier has a token with a channel, or a webhook: got neither or both.", next="fill in one of the two ways."
            )
        return self

    def remember_in(self, places: Places) -> None:
        """Keeps which message tells about which key in `places`, so that another process updates it too."""
        self._places = places

    def post(self, key: str, text: str, *, link: str | None = None) -> None:
        """Tells `text`. With a bot token the same key updates the same message; a webhook cannot, so it appends.

        Raises `TransientError` when Slack may answer later, else `DeliveryError`. No message holds the token or the address.
        """
        from slack_sdk.errors import SlackApiError  # noqa: PLC0415  a tenth of a second that a run without Slack need not pay

        text = redacted(text)
        mention = self._mention() if is_urgent(key) else ""
        said = {"text": words_of(text, link, mention=mention), "blocks": blocks_of(text, link, mention=mention)}
        try:
            if self.webhook:
                self._append(key, said)
            else:
                self._tell(key, said)
        except SlackApiError as refused:
            raise _explained(_error(refused), refused.response.status_code, refused.response.headers) from None
        except (OSError, ValueError) as broken:
            raise TransientError(f"Slack did not answer ({type(broken).__name__}).", next="nothing: it is tried again.") from None

    def _mention(self) -> str:
        whom = self.escalate_to
        if whom in (None, "here", "channel"):
            return f"<!{whom}>" if whom else ""
        return f"<!subteam^{whom}>" if whom.startswith("S") else f"<@{whom}>"

    def _append(self, key: str, said: Mapping[str, Any]) -> None:
        from slack_sdk.webhook import WebhookClient  # noqa: PLC0415

        if self.webhook is None or is_passing(key):
            return
        client = WebhookClient(self.webhook.get_secret_value(), timeout=self.timeout_seconds, retry_handlers=[])
        answer = client.send(text=said["text"], blocks=said["blocks"], unfurl_links=False, unfurl_media=False)
        if answer.status_code != 200:
            raise _explained(answer.body[:100] if answer.body.isidentifier() else "", answer.status_code, answer.headers)

    def _tell(self, key: str, said: Mapping[str, Any]) -> None:
        from slack_sdk import WebClient  # noqa: PLC0415
        from slack_sdk.errors import SlackApiError  # noqa: PLC0415

        token = self.token.get_secret_value() if self.token else None
        client = WebClient(token, base_url=self.api_url, timeout=self.timeout_seconds, retry_handlers=[])
        own = key if is_detail(key) else message_of(key)
        thread = self._known(message_of(key)) if is_detail(key) else None
        if known := self._known(own) or self._found_again(client, own, thread):
            try:
                client.chat_update(channel=known[0], ts=known[1], **said)
            except SlackApiError as refused:
                if _error(refused) not in GONE:
                    raise
            else:
                return
        self._post(client, own, said, thread)

    def _post(self, client: "WebClient", key: str, said: Mapping[str, Any], thread: tuple[str, str] | None) -> None:
        """Written ahead: whoever finds a beginning without an end looks whether the message is there."""
        from slack_sdk.errors import SlackApiError  # noqa: PLC0415

        extra: dict[str, Any] = {"thread_ts": thread[1], "reply_broadcast": is_urgent(key)} if thread else {}
        self._places.keep_place(key, f"? {time.time() - CLOCK_SECONDS:.0f}")
        try:
            told: Any = client.chat_postMessage(
                channel=thread[0] if thread else self.channel or "",
                metadata={"event_type": EVENT, "event_payload": {"key": key}},
                parse="none",
                unfurl_links=False,
                unfurl_media=False,
                **said,
                **extra,
            )
        except SlackApiError as refused:
            if refused.response.status_code in (200, 429):
                self._places.keep_place(key, "")  # it is not there: nobody need look
            if thread and _error(refused) in GONE:
                self._post(client, key, said, None)
                return
            raise
        self._places.keep_place(key, f"{told['channel']} {told['ts']}")
        self._places.keep_place(self._channel_key, f"{told['channel']} -")

    def _known(self, key: str) -> tuple[str, str] | None:
        channel, _, stamp = (self._places.place_of(key) or "").partition(" ")
        return (channel, stamp) if channel and channel != "?" else None

    def _found_again(self, client: "WebClient", key: str, thread: tuple[str, str] | None) -> tuple[str, str] | None:
        """The message of a sender that died, or got no answer, between Slack's yes and the note. Without the right to read: None."""
        from slack_sdk.errors import SlackApiError  # noqa: PLC0415

        mark, _, since = (self._places.place_of(key) or "").partition(" ")
        if mark != "?":
            return None
        known = self._known(self._channel_key)
        channel = thread[0] if thread else known[0] if known else self.channel or ""
        try:
            seen: Any = (
                client.conversations_replies(channel=channel, ts=thread[1], oldest=since, include_all_metadata=True, limit=200)
                if thread
                else client.conversations_history(channel=channel, oldest=since, include_all_metadata=True, limit=200)
            )
        except SlackApiError as refused:
            if _error(refused) in PASSING or refused.response.status_code != 200:
                raise
            log.info("Whether %s was told already cannot be seen (%s); it may be there twice", key, _error(refused))
            return None
        found = (one["ts"] for one in seen["messages"] if _key_in(one) == key)
        stamp = next(found, None)
        if stamp is None:
            return None
        self._places.keep_place(key, f"{channel} {stamp}")
        return channel, stamp

    @property
    def _channel_key(self) -> str:
        return f"slack channel {self.channel}"


_: type[Notifier] = SlackNotifier


def _plain(address: SecretStr | str) -> str:
    return address.get_secret_value() if isinstance(address, SecretStr) else address


def _key_in(message: Mapping[str, Any]) -> str | None:
    metadata = message.get("metadata") or {}
    key: str | None = metadata.get("event_payload", {}).get("key") if metadata.get("event_type") == EVENT else None
    return key


def _error(refused: Any) -> str:
    response = refused.response
    return str(response.get("error", "")) if isinstance(response.data, dict) else ""


def _explained(error: str, status: int, headers: Mapping[str, str]) -> DeliveryError:
    what = f"Slack refused the notice: {error or f'HTTP {status}'}."
    if status == 429 or error in ("ratelimited", "rate_limited"):
        return TryLater(what, next="nothing: it is tried again when Slack allows.", seconds=seconds_to_wait(headers))
    if error in PASSING or status >= 500:
        return TransientError(what, next="nothing: it is tried again.")
    if error in REFUSED:
        return Undeliverable(what, next="tell those who make Greenroom: no notice should be like that.")
    return DeliveryError(what, next="check the notifier block: token, channel, and that the bot is in the channel.")


def seconds_to_wait(headers: Mapping[str, str]) -> float:
    """What Retry-After says, within reason."""
    said = next((value for name, value in headers.items() if name.casefold() == "retry-after"), "")
    return min(3600.0, float(said)) if said.isascii() and said.isdigit() else 30.0
