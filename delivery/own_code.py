"""Which files of an image are the application's own code, and where in them something of the database is named.

Everything is read as bytes, whatever its language; what comes from a package index or belongs to the system is somebody else's.
"""

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from functools import cache
from pathlib import PurePosixPath

_FOREIGN = frozenset({"site-packages", "dist-packages", "node_modules", "__pycache__", ".git", ".cache", ".npm"})
_SYSTEM = ("bin", "boot", "dev", "etc", "lib", "lib32", "lib64", "libx32", "proc", "run", "sbin", "sys", "usr",
           "var/backups", "var/cache", "var/lib", "var/log", "var/spool")  # fmt: skip
# Within the system's folders: where official images of Node and nginx keep what they serve.
_OWN = ("usr/src", "usr/share/nginx")
_SCRIPTS = (("usr/local/bin", "usr/local/sbin"), (".js", ".mjs", ".py", ".sh", ".sql", ".ts"))
_YARN = re.compile(r"opt/yarn-v[\d.]+/")
_NO_CODE = frozenset({
    ".md", ".rst", ".css", ".png", ".jpg", ".jpeg", ".gif", ".webp", ".avif", ".ico", ".svg", ".woff", ".woff2", ".ttf", ".otf", ".eot",
    ".mp3", ".mp4", ".webm", ".pdf", ".gz", ".br",
})  # fmt: skip
# Searched, but an image that has nothing else has not shown its code.
_NO_PROGRAM = frozenset({".ini", ".cfg", ".conf", ".toml", ".yaml", ".yml", ".json", ".txt", ".lock", ".mako", ".sh"})
# Compressed: bytes in them name nothing.
_PACKED = frozenset({".zip", ".whl", ".egg", ".pyz", ".jar", ".war"})
# A module that says which revision it is and which came before, however it writes that.
_REVISION = (
    re.compile(rb"^revision\b[^\n]*=", re.MULTILINE),
    re.compile(rb"^(?:revision\b[^\n=]*,\s*)?down_revision\b[^\n]*=", re.MULTILINE),
)
_EDITABLE = re.compile(rb'"editable"\s*:\s*true')
MOST_PLACES = 20


def is_own(path: str, working_directory: str) -> bool:
    """Is a file of an image (its path without the first slash) the application's, by where it lies? `working_directory` is the image's."""
    place = PurePosixPath(path)
    if _FOREIGN.intersection(place.parts) or place.suffix.lower() in _NO_CODE or place.name.startswith(".") or _YARN.match(path):
        return False
    home = working_directory.strip("/")
    if any(_is_below(path, folder) for folder in (*_OWN, *([home] if home and home not in _SYSTEM else []))):
        return True
    folders, suffixes = _SCRIPTS
    if any(_is_below(path, folder) for folder in folders):
        return place.suffix in suffixes
    return not any(_is_below(path, folder) for folder in _SYSTEM)


def tells_where_it_came_from(path: str) -> bool:
    """The two notes by which an installed Python package tells where it came from and which files are its own (PEP 376, PEP 610)."""
    return path.endswith((".dist-info/direct_url.json", ".dist-info/RECORD"))


def own_packages(notes: Mapping[str, bytes]) -> frozenset[str]:
    """The files of Python packages that were installed from a folder, an archive or a repository: no index knows them, so they are the
    application's. `notes` maps the paths of what `tells_where_it_came_from` to its text.
    """
    found = set()
    for path, note in notes.items():
        info = PurePosixPath(path).parent
        if path.endswith("/direct_url.json") and not _EDITABLE.search(note):
            record = notes.get(str(info / "RECORD"), b"").decode("utf-8", "replace")
            listed = [line.partition(",")[0] for line in record.splitlines()]
            found |= {str(info.parent / name) for name in listed if not name.startswith(("..", "/")) and ".dist-info/" not in name}
    return frozenset(name for name in found if PurePosixPath(name).suffix not in _NO_CODE and "__pycache__" not in name)


@dataclass(eq=False)
class CodeSearch:
    """Where `names` stand as words in the code of one service, in any case and with or without underscores: a column `seller_note` is also
    found as `sellerNote`. Alembic's revisions tell of the past and are left out.
    """

    names: tuple[str, ...]
    # By name: `api:/srv/models.py:12`, at most one of each file.
    places: dict[str, list[str]] = field(default_factory=dict)
    unreadable: list[str] = field(default_factory=list)
    _looked_at: list[str] = field(default_factory=list)
    _environments: list[str] = field(default_factory=list)
    _own: int = 0

    @property
    def files(self) -> int:
        """How many programs were looked at. Settings, Alembic's env.py, and what a virtual environment has beside its packages are none: an
        image with nothing else has not shown its code.
        """
        return self._own + sum(not where.startswith(tuple(self._environments)) for where in self._looked_at)

    def look_at_package(self, where: str, content: bytes | None) -> None:
        """At a file of one of `own_packages`: it counts, wherever it lies."""
        self.look(where, content, counts=False)
        self._own += content is not None

    def look(self, where: str, content: bytes | None, *, counts: bool = True) -> None:
        """At one file; None for one that could not be read."""
        if content is None or PurePosixPath(where).suffix.lower() in _PACKED:
            self.unreadable.append(where)
            return
        if where.endswith(".py") and all(line.search(content) for line in _REVISION):
            return
        if where.endswith("/pyvenv.cfg"):
            self._environments.append(where.removesuffix("pyvenv.cfg"))
        place = PurePosixPath(where)
        if counts and place.suffix not in _NO_PROGRAM and not (place.name == "env.py" and b"run_migrations" in content):
            self._looked_at.append(where)
        for name in self.names:
            if found := _as_word(name).search(content):
                line = "" if b"\0" in content else f":{content.count(bytes([10]), 0, found.start()) + 1}"
                self.places.setdefault(name, []).append(f"{where}{line}")

    def named(self, names: Iterable[str]) -> tuple[str, ...]:
        """The places where any of these names stands."""
        return tuple(dict.fromkeys(place for name in names for place in self.places.get(name, ())))[:MOST_PLACES]


@cache
def _as_word(name: str) -> re.Pattern[bytes]:
    parts = [part for part in re.split(r"[_\W]+", re.sub(r"(?<=[a-z0-9])(?=[A-Z])", "_", name)) if part]
    spelled = b"[_-]?".join(re.escape(part).encode() for part in parts) if parts else re.escape(name).encode()
    return re.compile(rb"(?<![0-9A-Za-z_])" + spelled + rb"(?![0-9A-Za-z_])", re.IGNORECASE)


def _is_below(path: str, folder: str) -> bool:
    return path.startswith(f"{folder}/")
