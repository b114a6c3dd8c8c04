"""`greenroom preflight`: the checklist before an environment's first release, gone through now."""

import json
from dataclasses import asdict

from cli.house import open_local_house
from delivery.preflight import failing, sentence
from flows.preflight import go_through


def show_checklist(environment: str, *, as_json: bool) -> bool:
    """True when no item fails; what cannot be told is shown and fails nothing."""
    with open_local_house() as house:
        items = go_through(house, environment)
    told, is_ready = sentence(environment, items), not failing(items)
    if as_json:
        document = {"environment": environment, "ready": is_ready, "told": told, "items": [asdict(item) for item in items]}
        print(json.dumps(document, ensure_ascii=False))
        return is_ready
    width = max(len(item.name) for item in items)
    for item in items:
        print(f"{item.verdict:<11}  {item.name:<{width}}  {item.evidence}")
        if item.next:
            print(f"{'':<11}  {'':<{width}}  Next: {item.next}")
    print(told)
    return is_ready
