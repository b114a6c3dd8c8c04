"""Lists of installed packages with their licences, as pip-licenses and npm write them."""

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from delivery.licences import Package, judge
from delivery.scan import Scan
from tasks.reports.document import document_of, one_line

# pip-licenses' word for a field that a package leaves out, and the classifiers that name no licence.
_NOTHING = ("UNKNOWN", "")
_LONGEST_NAME = 80


def read_pip_licenses(text: str, _lines: Sequence[str], allow: Iterable[str] = ()) -> Scan:
    """`pip-licenses --from all --format json`. The expression counts (PEP 639), else all classifiers, else the free text."""
    packages = [Package(str(one["Name"]), str(one["Version"]), _of_python(one)) for one in document_of(text)]
    return judge(packages, allow, tool="pip-licenses")


def _of_python(package: Mapping[str, Any]) -> tuple[str, ...]:
    expression, classifiers, words = (str(package[f"License-{name}"]) for name in ("Expression", "Classifier", "Metadata"))
    if expression not in _NOTHING:
        return (one_line(expression),)
    if classifiers not in _NOTHING:
        return tuple(one_line(name) for name in classifiers.split(";") if name.strip())
    first = next((line.strip() for line in words.splitlines() if line.strip()), "")
    return () if first in _NOTHING else (first[:_LONGEST_NAME],)


def read_npm_query(text: str, _lines: Sequence[str], allow: Iterable[str] = ()) -> Scan:
    """`npm query .prod`: what is installed, by its own package.json. The application and its workspaces are no packages of others."""
    packages = [
        Package(str(one["name"]), str(one["version"]), _of_node(one))
        for one in document_of(text)
        if "node_modules/" in f"{one['location']}"
    ]
    return judge(packages, allow, tool="npm-query")


def _of_node(package: Mapping[str, Any]) -> tuple[str, ...]:
    """`license` is an expression; older packages have an object there, or a list of objects of which any may be chosen."""
    told = package.get("license") or package.get("licenses") or ()
    listed = told if isinstance(told, list) else [told] if told else []
    names = [str(one.get("type") or "") if isinstance(one, dict) else str(one) for one in listed]
    joined = " OR ".join(one_line(name) for name in names if name.strip())
    # npm's words for "in a file", "nobody may", and nothing.
    return () if not joined or joined.startswith("SEE LICEN") else (joined,)
