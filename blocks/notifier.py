"""Telling people in Slack. Notices wait in the journal's outbox; a Slack that is dead costs a release nothing."""

import hashlib
import os
from collections.abc import Iterator, MutableMapping
from pathlib import Path
from typing import Any, ClassVar

from prefect.blocks.core import Block
from pydantic import PrivateAttr, SecretStr, model_validator

from delivery.errors import DeliveryError, InvalidSettings, TransientError
from delivery.ports import Notifier
from delivery.redaction import redacted

# Answers of Slack that another try, later, may turn into a success.
PASSING = frozenset({"ratelimited", "rate_limited", "fatal_error", "internal_error", "service_unavailable", "request_timeout"})
GONE = frozenset({"message_not_found", "cant_update_message", "edit_window_closed"})


class SlackNotifier(Block):
    """A Slack channel, reached by a bot token (one message per rollout, updated as it goes on) or a webhook (one message per notice).

    A bot needs the scope chat:write and must be in the channel.
    """

    _block_type_name = "Slack notifier"
    _block_type_slug = "slack-notifier"
    _description = "Tells people how releases go."

    token: SecretStr | None = None
    channel: str | None = None
    webhook: SecretStr | None = None
    api_url: str = "https://slack.com/api/"
    timeout_seconds: int = 5

    # Which message of Slack tells about which key; in memory until `remember_in` gives it a place that outlives the process.
    _messages: MutableMapping[str, str] = PrivateAttr(default_factory=dict)

    @model_validator(mode="after")
    def _has_one_way(self) -> "SlackNotifier":
        if bool(self.token and self.channel) == bool(self.webhook):
            raise InvalidSettings(
                "A Slack notifier has a token with a channel, or a webhook: got neither or both.", next="fill in one of the two ways."
            )
        return self

    def remember_in(self, messages: MutableMapping[str, str]) -> None:
        """Keeps which message tells about which key in `messages`, so that another process updates it too."""
        self._messages = messages

    def post(self, key: str, text: str, *, link: str | None = None) -> None:
        """Tells `text`. With a bot token the same key updates the same message; a webhook cannot, so it appends.

        Raises `TransientError` when Slack may answer later, else `DeliveryError`. No message holds the token or the address.
        """
        from slack_sdk.errors import SlackApiError  # noqa: PLC0415  a tenth of a second that a run without Slack need not pay

        words = escaped(redacted(text)) + (f"\n<{_link(link)}|Open>" if link else "")
        try:
            if self.webhook:
                self._append(words)
            else:
                self._tell(key, words)
        except SlackApiError as refused:
            raise _explained(str(refused.response.get("error", "")), refused.response.status_code) from None
        except (OSError, ValueError) as broken:
            raise TransientError(f"Slack did not answer ({type(broken).__name__}).", next="nothing: it is tried again.") from None

    def _append(self, words: str) -> None:
        from slack_sdk.webhook import WebhookClient  # noqa: PLC0415

        if self.webhook is None:
            return
        answer = WebhookClient(self.webhook.get_secret_value(), timeout=self.timeout_seconds, retry_handlers=[]).send(text=words)
        if answer.status_code != 200:
            raise _explained(answer.body[:100] if answer.body.isidentifier() else "", answer.status_code)

    def _tell(self, key: str, words: str) -> None:
        from slack_sdk import WebClient  # noqa: PLC0415
        from slack_sdk.errors import SlackApiError  # noqa: PLC0415

        token = self.token.get_secret_value() if self.token else None
        client = WebClient(token, base_url=self.api_url, timeout=self.timeout_seconds, retry_handlers=[])
        channel, _, stamp = self._messages.get(key, "").partition(" ")
        if stamp:
            try:
                client.chat_update(channel=channel, ts=stamp, text=words)
            except SlackApiError as refused:
                if refused.response.get("error") not in GONE:
                    raise
            else:
                return
        told: Any = client.chat_postMessage(channel=self.channel or "", text=words, unfurl_links=False, unfurl_media=False)
        self._messages[key] = f"{told['channel']} {told['ts']}"


_: type[Notifier] = SlackNotifier


class RememberedMessages(MutableMapping[str, str]):
    """Which Slack message tells about which key, as one small file each in `folder`: processes that come and go share it."""

    SUFFIX: ClassVar[str] = ".slack"

    def __init__(self, folder: Path) -> None:
        self._folder = folder

    def __getitem__(self, key: str) -> str:
        try:
            return self._file(key).read_text()
        except OSError:
            raise KeyError(key) from None

    def __setitem__(self, key: str, value: str) -> None:
        self._folder.mkdir(parents=True, exist_ok=True)
        fresh = self._file(key).with_suffix(f".{os.getpid()}")
        fresh.write_text(value)
        fresh.replace(self._file(key))

    def __delitem__(self, key: str) -> None:
        try:
            self._file(key).unlink()
        except FileNotFoundError:
            raise KeyError(key) from None

    def __iter__(self) -> Iterator[str]:
        """The files' names: keys are kept as hashes only, since a key may hold what a file name cannot."""
        return (file.stem for file in self._folder.glob(f"*{self.SUFFIX}"))

    def __len__(self) -> int:
        return sum(1 for _ in self)

    def _file(self, key: str) -> Path:
        return self._folder / f"{hashlib.sha256(key.encode()).hexdigest()[:32]}{self.SUFFIX}"


def escaped(text: str) -> str:
    """The text with Slack's three control characters disarmed: nothing in it mentions a channel, a person or a foreign link.

    Source: https://api.slack.com/reference/surfaces/formatting#escaping
    """
    return text.replace("&", "&amp;").replace("<", "&lt;").replace(">", "&gt;")


def _link(address: str) -> str:
    return escaped(address).replace("|", "%7C")


def _explained(error: str, status: int) -> DeliveryError:
    what = f"Slack refused the notice: {error or f'HTTP {status}'}."
    if error in PASSING or status == 429 or status >= 500:
        return TransientError(what, next="nothing: it is tried again.")
    return DeliveryError(what, next="check the notifier block: token, channel, and that the bot is in the channel.")
