"""`greenroom housekeeping`: what nobody needs any longer, shown, and deleted on request."""

import json

from cli.house import open_local_house
from flows.housekeeping import rows, sentence, sweep

_WIDTHS = "{fate:<6} {what:<70} {why}"


def tidy(*, act: bool, as_json: bool) -> bool:
    """Prints what goes, what stays and why; False when a part could not be looked at or deleted."""
    with open_local_house() as house:
        verdicts, failures = sweep(house, act=act)
    if as_json:
        print(json.dumps({"deleted": act, "things": rows(verdicts), "failed": [str(broken) for broken in failures]}))
        return not failures
    for row in rows(verdicts):
        print(_WIDTHS.format(**row))
    print(sentence(verdicts, act=act))
    if not act and any(one.goes for one in verdicts):
        print("Nothing was touched. `greenroom housekeeping --delete` does it.")
    for broken in failures:
        print(broken)
    return not failures
