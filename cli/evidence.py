"""`greenroom evidence`: a release's chain from commit to users, verified now, with the keys that an environment trusts."""

import json

from blocks.documents import to_document
from cli.house import open_local_house
from cli.journal import release_named
from tasks.chain import examine


def show_evidence(release: str, environment: str, *, as_json: bool) -> bool:
    """True when the whole chain holds."""
    from flows.trust import policy_of

    with open_local_house() as house:
        found = release_named(house.store, release)
        trusting = house.environment(environment)
        policy = policy_of(house, trusting)
        findings = examine(found, policy, trusting.image, store=house.store, keys=house.keys(), registry=house.known_registry())
    whole = all(finding.well for finding in findings)
    if as_json:
        document = {"release": found.id, "environment": environment, "whole": whole, "evidence": [to_document(one) for one in findings]}
        print(json.dumps(document, ensure_ascii=False))
        return whole
    print(f"{found.id}, as {environment} judges it: {'the chain is whole' if whole else 'THE CHAIN IS BROKEN'}")
    for one in findings:
        key = f" (signed by {one.signed_by})" if one.signed_by else ""
        print(f"  {'ok    ' if one.well else 'BROKEN'}  {f'{one.stage} {one.about}'.strip():<22}  {one.what}{key}")
    return whole
