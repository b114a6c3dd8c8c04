"""Writes the file that Trivy keeps its advisories in (a bbolt file, Trivy's schema 2) from a feed of ours."""

import json
import struct
from collections.abc import Mapping
from itertools import product
from pathlib import Path
from typing import Any

from delivery.advisories import NPM, PYPI, Advisory, Feed
from delivery.errors import InvalidSettings

# Trivy looks into every bucket whose name begins so; the rest of the name is the source's.
_BUCKETS = {PYPI: "pip::the team's advisories", NPM: "npm::the team's advisories"}
# Names of more parts are told as the index spells them.
_MOST_PARTS = 5

# bbolt: pages of 4096 bytes; two metas, a free list, then here the root and one (long) leaf per bucket.
_PAGE = 4096
_HEADER = struct.Struct("<QHHI")  # number, flags, count, further pages
_ELEMENT = struct.Struct("<IIII")  # flags, offset from here to the key, length of key, length of value
_BUCKET = struct.Struct("<QQ")  # page of its root (0: the page follows inside the value), sequence
_META = struct.Struct("<IIIIQQQQQ")
_LEAF, _META_FLAG, _FREE_LIST = 0x02, 0x04, 0x10
_MAGIC, _VERSION = 0xED0CDAED, 2
_ROOT, _FIRST = 3, 4
# A page counts its entries in 16 bits, and this writes no tree of pages.
MOST_ENTRIES = 0xFFFE

Tree = Mapping[str, "Tree | bytes"]


def write_database(feed: Feed, folder: Path) -> None:
    """`folder/db` as Trivy expects its cache. Raises `InvalidSettings` for a feed that is too large for it."""
    folder.joinpath("db").mkdir(parents=True, exist_ok=True)
    folder.joinpath("db", "trivy.db").write_bytes(bolt_file(_tree(feed)))
    day = f"{feed.as_of}T00:00:00Z"
    # Trivy itself must not think it outdated, since it would want to fetch another; how old it may be is decided here.
    metadata = {"Version": 2, "UpdatedAt": day, "NextUpdate": "2999-01-01T00:00:00Z", "DownloadedAt": day}
    folder.joinpath("db", "metadata.json").write_text(json.dumps(metadata), encoding="utf-8")


def _tree(feed: Feed) -> Tree:
    packages: dict[str, dict[str, dict[str, Any]]] = {}
    details: dict[str, bytes] = {}
    for one in feed.advisories:
        for name in _spellings(one):
            entry = packages.setdefault(_BUCKETS[one.ecosystem], {}).setdefault(name, {})
            known = entry.setdefault(one.id, {"VulnerableVersions": [], "PatchedVersions": []})
            known["VulnerableVersions"] += one.vulnerable
            known["PatchedVersions"] += one.fixed
        details[one.id] = _json({"Title": one.title, "Severity": one.severity})
    source = _json({"ID": "team", "Name": "the team's advisories", "URL": ""})
    buckets = {
        bucket: {name: {cve: _json(known) for cve, known in entries.items()} for name, entries in inside.items()}
        for bucket, inside in packages.items()
    }
    return {**buckets, "data-source": dict.fromkeys(packages, source), "vulnerability": details}


def _spellings(advisory: Advisory) -> list[str]:
    """For Python zope-interface and zope.interface are one package. Trivy takes them for two, so both are told; `_` it knows to be `-`."""
    parts = advisory.package.split("-")
    if advisory.ecosystem != PYPI or not 1 < len(parts) <= _MOST_PARTS:
        return [advisory.package]
    return ["".join(map("".join, zip(parts, (*marks, ""), strict=True))) for marks in product("-.", repeat=len(parts) - 1)]


def bolt_file(tree: Tree) -> bytes:
    """A bbolt file of buckets of entries or of buckets of entries."""
    pages = b""
    following = _FIRST
    roots: list[tuple[bytes, bytes, bool]] = []
    for name, inside in _sorted(tree):
        if isinstance(inside, bytes):
            raise TypeError(f"{name} is no bucket")
        page = _whole_pages(following, _items(inside))
        roots.append((name.encode(), _BUCKET.pack(following, 0), True))
        pages += page
        following += len(page) // _PAGE
    root = _whole_pages(_ROOT, roots)
    free = _padded(_HEADER.pack(2, _FREE_LIST, 0, 0))
    return _meta(0, following) + _meta(1, following) + free + root + pages


def _items(tree: Tree) -> list[tuple[bytes, bytes, bool]]:
    return [
        (name.encode(), value, False)
        if isinstance(value, bytes)
        else (name.encode(), _BUCKET.pack(0, 0) + _leaf(0, _items(value), 0), True)
        for name, value in _sorted(tree)
    ]


def _leaf(number: int, items: list[tuple[bytes, bytes, bool]], further: int) -> bytes:
    if len(items) > MOST_ENTRIES:
        raise InvalidSettings(
            f"The advisories' file has {len(items)} entries of one kind, {MOST_ENTRIES} at most.", next="leave out what you do not use."
        )
    elements, data = bytearray(), bytearray()
    for index, (key, value, is_bucket) in enumerate(items):
        offset = (len(items) - index) * _ELEMENT.size + len(data)
        elements += _ELEMENT.pack(int(is_bucket), offset, len(key), len(value))
        data += key + value
    return _HEADER.pack(number, _LEAF, len(items), further) + bytes(elements + data)


def _whole_pages(number: int, items: list[tuple[bytes, bytes, bool]]) -> bytes:
    size = len(_leaf(number, items, 0))
    return _padded(_leaf(number, items, -(-size // _PAGE) - 1))


def _meta(number: int, following: int) -> bytes:
    meta = _META.pack(_MAGIC, _VERSION, _PAGE, 0, _ROOT, 0, 2, following, number)
    return _padded(_HEADER.pack(number, _META_FLAG, 0, 0) + meta + struct.pack("<Q", _fnv1a(meta)))


def _fnv1a(data: bytes) -> int:
    value = 0xCBF29CE484222325
    for byte in data:
        value = ((value ^ byte) * 0x100000001B3) & 0xFFFFFFFFFFFFFFFF
    return value


def _padded(data: bytes) -> bytes:
    return data + b"\0" * (-len(data) % _PAGE)


def _sorted(tree: Tree) -> list[tuple[str, "Tree | bytes"]]:
    return sorted(tree.items(), key=lambda entry: entry[0].encode())


def _json(value: object) -> bytes:
    return json.dumps(value, sort_keys=True).encode()
