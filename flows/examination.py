"""Questions about an installation that several ask: the doctor of everything, the checklist of one environment."""

from dataclasses import dataclass
from typing import Literal

from blocks.settings import environment_names
from delivery.dsse import IN_TOTO
from delivery.errors import InvalidSettings
from delivery.plan import require_able
from delivery.secret_age import Age, SecretAge, ages_of, failing
from flows.assembly import House
from flows.validation import troubles_of

Verdict = Literal["ok", "look", "missing"]


@dataclass(frozen=True)
class Finding:
    """`look` works but is worth a look; `missing` keeps something from working."""

    name: str
    verdict: Verdict
    evidence: str
    next: str = ""


def examine_signing_key(house: House, name: str) -> Finding:
    """Raises `InvalidSettings` when an environment takes signed releases only and would take none that is signed here."""
    names = environment_names(house.settings.environments_dir)
    policies = {one: house.environment(one).provenance for one in names}
    asking = [one for one, policy in policies.items() if policy.required]
    if not asking:
        return Finding(name, "look", "no environment asks where its images come from", "docs/operating.md, Signed releases.")
    key = house.signer()
    if key is None:
        raise InvalidSettings(
            f"There is no block signing-key/default, and {', '.join(asking)} take signed releases only.",
            next="make a key: `python -m deployments.keys`, and write the block that it prints into the blocks file.",
        )
    signed = key.sign(IN_TOTO, b"{}")
    strangers = [one for one in asking if house.keys().signer_of(signed, policies[one].keys) is None]
    if strangers:
        raise InvalidSettings(
            f"What is signed here is trusted by none of the keys of {', '.join(strangers)}.",
            next=f"put its public half into {house.settings.keys_dir}, or correct provenance.keys.",
        )
    return Finding(name, "ok", f"signs, and is trusted by {', '.join(asking)}")


def examine_values(house: House, environment_name: str, name: str) -> Finding:
    """What the environment gives to the services of the newest release: names only. Raises `InvalidSettings` when its file is unsound."""
    environment = house.environment(environment_name)
    newest = next(iter(house.store.releases()), None)
    found = troubles_of(house, environment, newest)
    if not found:
        told = f"{newest.id} gets what it needs" if newest else "no release says yet what it needs"
        return Finding(name, "ok", f"{told}; no debugging, no weak key, nothing that another environment has")
    worst = [trouble for trouble in found if trouble.certain]
    advice = " ".join(dict.fromkeys(trouble.next for trouble in worst or found))
    return Finding(name, "missing" if worst else "look", "; ".join(trouble.what for trouble in found), advice)


def examine_environment(house: House, environment_name: str, name: str) -> Finding:
    """Raises `InvalidSettings` when the file is unsound, or asks for what its target is not or cannot."""
    environment = house.environment(environment_name)
    target = house.target(environment)
    require_able(environment, target.capabilities)
    weights = target.observe().weights
    served = ", ".join(f"{percent} % {release}" for release, percent in weights.items() if percent) or "nothing"
    live, busy = house.store.live(environment.name), house.store.rollouts(environment=environment.name, open_only=True)
    if live and not busy and weights.get(live.id) != 100:
        return Finding(
            name,
            "look",
            f"its traffic layer serves {served}, the journal says {live.id} is live",
            f"`greenroom rollback {environment.name} --version {live.version}`, or release again.",
        )
    return Finding(name, "ok", f"its target answers and serves {served}")


def secret_ages(house: House, environment_name: str) -> tuple[SecretAge, ...]:
    """What the environment has registered, and what its containers are given beside that."""
    environment = house.environment(environment_name)
    today, present = house.store.now().date(), house.secret_names(environment)
    return ages_of(environment.secrets, environment.secret_age, today=today, present=present)


def examine_secrets(house: House, environment_name: str, name: str) -> Finding:
    """An age that nobody can tell is worth a look, and keeps nothing from working."""
    ages = secret_ages(house, environment_name)
    evidence = "; ".join(one.sentence() for one in ages if one.age is not Age.FRESH)
    if failing(ages):
        return Finding(name, "missing", evidence, "renew them: docs/operating.md, The age of secrets.")
    if evidence:
        return Finding(name, "look", evidence, "plan their renewal, or write them into [secrets]: docs/operating.md, The age of secrets.")
    return Finding(name, "ok", f"{len(ages)} registered, none is due soon" if ages else "it is given none")
