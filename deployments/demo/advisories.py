"""The advisories that the demo's installation knows: a team with a closed network has a feed of its own, and so has the demo."""

import json
from datetime import UTC, datetime
from pathlib import Path

# Two that are known to everybody; the example has neither package. A real feed comes from who watches over it, each day anew.
_RECORDS = (
    ("GHSA-x84v-xcm2-53pg", "CVE-2018-18074", "PyPI", "requests", "2.20.0", "HIGH", "Credentials are sent to the host of a redirect"),
    ("GHSA-xvch-5gv4-984h", "CVE-2021-44906", "npm", "minimist", "1.2.6", "CRITICAL", "Prototype pollution"),
)


def write_advisories(file: Path) -> None:
    """The feed as of today, since one that is too old is refused."""
    records = [
        {
            "id": name,
            "aliases": [cve],
            "summary": summary,
            "database_specific": {"severity": severity},
            "affected": [
                {
                    "package": {"ecosystem": ecosystem, "name": package},
                    "ranges": [{"type": "ECOSYSTEM", "events": [{"introduced": "0"}, {"fixed": fixed}]}],
                }
            ],
        }
        for name, cve, ecosystem, package, fixed, severity, summary in _RECORDS
    ]
    file.write_text(json.dumps({"as_of": datetime.now(UTC).date().isoformat(), "advisories": records}, indent=1), encoding="utf-8")
