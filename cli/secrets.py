"""`greenroom secrets`: how old each environment's secrets are, and what follows."""

import json

from blocks.settings import load_environment
from cli.house import open_local_house
from delivery.errors import DeliveryError
from delivery.secret_age import failing
from flows.secret_age import look, rows, sentence


def show_ages(environment: str | None, *, as_json: bool) -> bool:
    """True when none is overdue. Raises `DeliveryError` for an environment that cannot be looked at."""
    with open_local_house() as house:
        if environment is not None:
            load_environment(environment, house.settings.environments_dir)
        found, failures = look(house, environment)
    if as_json:
        print(json.dumps(rows(found), ensure_ascii=False))
    else:
        print(sentence(found))
        for name, ages in found.items():
            for one in ages:
                print(f"  {name:<12}  {one.age.value:<8}  {one.sentence()}")
    if failures:
        raise DeliveryError(" ".join(failures), next="correct what is named; `greenroom doctor` tells more.")
    return not any(failing(ages) for ages in found.values())
