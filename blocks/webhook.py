"""The same notices for anything that takes a POST: a chat without a bot, a pager, a script of the team."""

import httpx
from prefect.blocks.core import Block
from pydantic import ConfigDict, SecretStr, field_validator

from blocks.notifier import seconds_to_wait
from delivery.addresses import why_not
from delivery.errors import DeliveryError, TransientError, TryLater, Undeliverable
from delivery.notices import environment_of, is_passing, is_urgent, message_of
from delivery.ports import Notifier
from delivery.redaction import redacted


class WebhookNotifier(Block):
    """An address that gets each notice as JSON: `key`, `message` (what belongs together), `environment`, `urgent`, `text`, `link`.

    A notice may arrive twice, with the same header `Idempotency-Key`.
    """

    model_config = ConfigDict(hide_input_in_errors=True)

    _block_type_name = "Webhook notifier"
    _block_type_slug = "webhook-notifier"
    _description = "Tells an address how releases go."

    url: SecretStr
    token: SecretStr | None = None
    timeout_seconds: int = 5

    @field_validator("url")
    @classmethod
    def _is_private(cls, address: SecretStr) -> SecretStr:
        if why := why_not(address.get_secret_value(), secret=True):
            raise ValueError(why)
        return address

    def post(self, key: str, text: str, *, link: str | None = None) -> None:
        """Raises `TransientError` when it may be taken later, else `DeliveryError`. No message holds the token or the address."""
        if is_passing(key):
            return
        words = {"key": key, "message": message_of(key), "environment": environment_of(key), "urgent": is_urgent(key)}
        headers = {"Idempotency-Key": key.encode("ascii", "replace").decode()}
        if self.token:
            headers["Authorization"] = f"Bearer {self.token.get_secret_value()}"
        try:
            with httpx.Client(timeout=self.timeout_seconds, follow_redirects=False) as client:
                answer = client.post(self.url.get_secret_value(), json={**words, "text": redacted(text), "link": link}, headers=headers)
        except (httpx.HTTPError, httpx.InvalidURL, OSError, ValueError) as broken:
            raise TransientError(f"The webhook did not answer ({type(broken).__name__}).", next="nothing: it is tried again.") from None
        if answer.is_success:
            return
        what = f"The webhook refused the notice: HTTP {answer.status_code}."
        if answer.status_code in (429, 503) and "retry-after" in answer.headers:
            raise TryLater(what, next="nothing: it is tried again when it allows.", seconds=seconds_to_wait(answer.headers))
        if answer.status_code in (408, 429) or answer.status_code >= 500:
            raise TransientError(what, next="nothing: it is tried again.")
        if answer.status_code in (400, 413, 422):
            raise Undeliverable(what, next="see why the address does not take it.")
        raise DeliveryError(what, next="check the notifier block: address and token.")


_: type[Notifier] = WebhookNotifier
