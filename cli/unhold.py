"""`greenroom unhold`: a person's word that releases may go to an environment again."""

from blocks.settings import load_environment, settings
from cli.journal import open_journal
from cli.person import name_of_person
from delivery.errors import InvalidSettings


def let_go_on(environment: str, *, reason: str, person: str | None) -> None:
    if not reason.strip():
        raise InvalidSettings("No reason was given.", next="pass --reason with what you found, in a few words.")
    current, who = settings(), name_of_person(person)
    title = load_environment(environment, current.environments_dir).title
    with open_journal(current) as store:
        ended = store.let_go_on(environment, by=who, reason=reason.strip())
    if ended is None:
        print(f"Nothing holds promotions to {environment}.")
        return
    print(f"{title} takes releases again, by {who}. Held since {ended.at:%Y-%m-%d %H:%M} UTC by {ended.by}: {ended.reason}")
