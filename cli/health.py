"""`greenroom health`: how environments fare now, measured at once."""

import json
from dataclasses import asdict

from cli.house import open_local_house
from delivery.health_overview import EnvironmentHealth
from flows.health import NO_ENVIRONMENT, look_at
from tasks.health import health_rows


def show_health(environment: str | None, *, seconds: float, as_json: bool) -> bool:
    """False when something is over its limit or not known, or an environment could not be looked at."""
    with open_local_house() as house:
        found, broken = look_at(house, None if environment is None else [environment], seconds=seconds)
    if environment is not None and broken:
        raise broken[0]
    if as_json:
        print(json.dumps({"environments": [_document(seen) for seen in found], "failed": [str(error) for error in broken]}))
    else:
        print("\n\n".join("\n".join(_lines(seen)) for seen in found) or NO_ENVIRONMENT)
        for error in broken:
            print(error)
    return not broken and all(seen.verdict not in ("over its limit", "unknown") for seen in found if seen.releases)


def _document(seen: EnvironmentHealth) -> dict[str, object]:
    return {**asdict(seen), "verdict": seen.verdict if seen.releases else "nothing is live", "told": seen.sentence()}


def _lines(seen: EnvironmentHealth) -> list[str]:
    rows = health_rows(seen)
    widths = [max((len(row[column]) for row in rows), default=0) for column in range(4)]
    return [
        seen.sentence(),
        *("  " + "  ".join([*(cell.ljust(width) for cell, width in zip(row, widths, strict=False)), row[4]]).rstrip() for row in rows),
    ]
