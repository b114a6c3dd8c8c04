"""`greenroom rotate`: where the rotation of a secret stands, and its rollout when that is due."""

import json

from blocks.settings import settings
from cli.house import open_local_house
from cli.prefect import open_api
from delivery.rotation import RotationStep
from flows.rotation import look, rows

_MARKS = {True: "✓", False: "·", None: "?"}


def rotate(environment: str, secret: str, *, dry_run: bool, as_json: bool) -> None:
    """Raises `DeliveryError` for a secret that is not there, and for a database that cannot be asked."""
    with open_local_house() as house:
        found = look(house, environment, secret)
    if as_json:
        print(json.dumps(rows(found), ensure_ascii=False))
    else:
        print(found.sentence())
        for one in found.findings:
            print(f"  {_MARKS[one.done]} {one.step.value:<9} {one.what}")
    if as_json:
        return
    if found.waits_for and found.waits_for.step is RotationStep.ROLL_OUT and not dry_run:
        api = open_api(settings())
        run = api.create_run("rotation/rotation", {"environment": environment, "secret": secret})
        print(f"Its rollout is asked for by {api.link(run.id)}")
        return
    print(f"Next: {found.next}")
