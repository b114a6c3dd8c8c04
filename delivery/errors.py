"""What can go wrong, said so that a person knows the next step."""

from delivery.redaction import redacted


class DeliveryError(Exception):
    """Something is broken (being sick is a value, not an error).

    `what` tells what happened with got and expected; `next` tells what a person does about it. Neither ever holds a secret: one that
    this process knows is taken out.
    """

    def __init__(self, what: str, *, next: str) -> None:  # noqa: A002  the word of design.md, always used by keyword
        self.what = redacted(what)
        self.next = redacted(next)
        super().__init__(self.what)

    def __str__(self) -> str:
        return f"{self.what} Next: {self.next}"

    def __reduce__(self) -> tuple[object, ...]:
        # Exceptions travel between processes (Prefect pickles them); keyword-only arguments need help there.
        return (_rebuild, (type(self), self.what, self.next))


def _rebuild(kind: type[DeliveryError], what: str, next_step: str) -> DeliveryError:
    return kind(what, next=next_step)


class TransientError(DeliveryError):
    """Worth trying again by the named policies of `tasks/retry.py`; nothing else is retried."""


class TryLater(TransientError):  # noqa: N818
    """As its parent, and not before `seconds` have passed: the other side said so."""

    def __init__(self, what: str, *, next: str, seconds: float = 30.0) -> None:  # noqa: A002
        super().__init__(what, next=next)
        self.seconds = seconds


class Undeliverable(DeliveryError):  # noqa: N818
    """One notice that is never taken, however often it is sent; others may be."""


class InvalidSettings(DeliveryError):  # noqa: N818  reads as the sentence it is
    """What a person wrote (a file, a parameter, a block) cannot be meant; refused before anything is touched."""


class EnvironmentBusy(DeliveryError):  # noqa: N818
    """Another rollout holds the environment's lease; the message says who, what and since when."""


class StaleFence(DeliveryError):  # noqa: N818
    """The fencing token is lower than one the environment has already seen: another holder took over. Stop at once."""


class LeftOpen(DeliveryError):  # noqa: N818
    """The walk ends between two steps and the rollout stays open, on purpose: whoever holds the lease next goes on from the journal."""


class NotApproved(DeliveryError):  # noqa: N818
    """No valid approval covers this act."""
