"""`greenroom incident`: what people and monitors know of failures goes into the journal, and from there into the delivery metrics."""

from datetime import UTC, datetime

from blocks.settings import load_environment, settings
from cli.journal import open_journal
from cli.person import name_of_person
from delivery.errors import InvalidSettings


def open_incident(
    environment: str,
    *,
    text: str,
    noticed: str | None,
    since: str | None,
    rollout: str | None,
    key: str | None,
    person: str | None,
) -> None:
    if not text.strip():
        raise InvalidSettings("Nothing was said of what users suffer.", next="pass --what with it, in a few words.")
    current, by = settings(), name_of_person(person)
    load_environment(environment, current.environments_dir)
    detected_at, impact_started_at = _time(noticed, "--noticed"), _time(since, "--since")
    with open_journal(current) as store:
        fact = store.open_incident(
            environment,
            text=text.strip(),
            by=by,
            detected_at=detected_at,
            impact_started_at=impact_started_at,
            rollout=rollout,
            key=key,
        )
    blame = f"blamed on {fact.rollout}" if fact.rollout else "blamed on no rollout"
    print(f"Incident {fact.incident} is open in {environment}, noticed at {_told(fact.at)}, {blame}.")
    print(f"When it is over: greenroom incident close {fact.incident}")
    if fact.rollout is None:
        print(f"When its cause is known: greenroom incident attribute {fact.incident} ROLLOUT")


def close_incident(number: int, *, at: str | None, text: str, person: str | None) -> None:
    by, restored_at = name_of_person(person), _time(at, "--at")
    with open_journal(settings()) as store:
        fact = store.close_incident(number, by=by, restored_at=restored_at, text=text)
    print(f"Incident {number} is over since {_told(fact.at)}.")


def attribute_incident(number: int, rollout: str | None, *, to_nothing: bool, text: str, person: str | None) -> None:
    if (rollout is None) != to_nothing:
        got = "both a rollout and --nothing" if to_nothing else "neither a rollout nor --nothing"
        raise InvalidSettings(f"Got {got}, expected one of them.", next="name the rollout that caused it, or pass --nothing.")
    by = name_of_person(person)
    with open_journal(settings()) as store:
        store.attribute_incident(number, rollout, by=by, text=text)
    print(f"Incident {number} is blamed on {rollout or 'no rollout'}. The metrics of that time change with it.")


def _time(text: str | None, option: str) -> datetime | None:
    """A time without a zone is one of this terminal's."""
    if text is None:
        return None
    try:
        return datetime.fromisoformat(text).astimezone(UTC)
    except ValueError:
        raise InvalidSettings(
            f"{option}: got {text[:80]!r}, expected a time, for instance 2026-03-02T10:00Z.", next="correct it."
        ) from None


def _told(at: datetime) -> str:
    return f"{at:%Y-%m-%d %H:%M:%S} UTC"
