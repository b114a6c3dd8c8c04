"""From a commit's id to a clean checkout. Git runs with hooks off, protocols named, and the credential only in its environment."""

import base64
import contextlib
import fcntl
import hashlib
import logging
import os
import re
import shutil
import subprocess
import tempfile
from collections.abc import Iterable, Iterator, Mapping, Sequence
from datetime import UTC, datetime, timedelta
from pathlib import Path
from urllib.parse import urlsplit

from pydantic import SecretStr

from delivery.errors import DeliveryError, InvalidSettings, TransientError
from delivery.source import Commit, Semver, Sha, Source
from tasks.retry import NETWORK, retried
from tasks.shell import Redaction, tool_environment

log = logging.getLogger("greenroom.source")

# A repository is somebody else's data: none of its hooks run, no transport may start programs, no pager or prompt waits for anyone.
_HARDENED = (
    "-c", "core.hooksPath=/dev/null", "-c", "core.fsmonitor=false", "-c", "protocol.allow=never", "-c", "protocol.ext.allow=never",
    "-c", "protocol.https.allow=always", "-c", "protocol.http.allow=always", "-c", "protocol.ssh.allow=always",
    "-c", "protocol.file.allow=always", "-c", "submodule.recurse=false", "-c", "gc.auto=0", "-c", "advice.detachedHead=false",
)  # fmt: skip
_QUIET = {"GIT_TERMINAL_PROMPT": "0", "GIT_ASKPASS": "/bin/false", "GIT_SSH_COMMAND": "ssh -o BatchMode=yes", "GIT_PAGER": "cat"}
_PASSING = re.compile(
    r"could not resolve|connection (?:timed out|refused|reset)|failed to connect|early eof|rpc failed|operation timed out|"
    r"unexpected disconnect|returned error: (?:429|5\d\d)|temporary failure|hung up unexpectedly|tls connection",
    re.IGNORECASE,
)
_REFUSED = re.compile(r"authentication failed|could not read (?:username|password)|permission denied|returned error: 40[13]", re.IGNORECASE)
LONGEST_FETCH = timedelta(minutes=10)
LONGEST_LOOK = timedelta(minutes=2)
MOST_COMMITS = 200


@retried(NETWORK, name="checkout", run_name="checkout")
def checkout(
    repository: str,
    sha: Sha,
    *,
    work_dir: Path,
    credential: SecretStr | None = None,
    main_branch: str = "main",
    since: Sha | None = None,
) -> Source:
    """Fetches `repository` and returns the commit, checked out clean below `work_dir`.

    `credential` is `username:token`, or a token alone, for an http(s) address. `since` is the commit that production runs: what it does not
    contain are the source's changes; without it (or when the repository has lost it) what came after the last version tag.

    Raises `InvalidSettings` for an address that cannot be meant or a commit that is not there, `TransientError` when the host does not
    answer, else `DeliveryError`. May be repeated.
    """
    _refuse_odd(repository)
    if "://" not in repository and Path(repository).exists():
        repository = str(Path(repository).resolve())
    mirror = work_dir / "mirrors" / f"{hashlib.sha256(repository.encode()).hexdigest()[:16]}.git"
    folder = work_dir / "checkouts" / str(sha)
    with _locked(mirror.with_suffix(".lock")):
        _fetch(mirror, repository, sha, _credential_settings(repository, credential))
    with use_of(folder, exclusive=True):
        _make_clean(mirror, folder, sha)
    source = _describe(mirror, folder, repository, sha, main_branch=main_branch, since=since)
    log.info("checked out %s by %s (%s)", sha.short, source.author, "on " + main_branch if source.on_main else "not on " + main_branch)
    return source


def tree_hash(source: Source, paths: Iterable[str]) -> str:
    """What the commit holds at `paths`, as one hash; the same content has the same hash in every commit.

    Raises `InvalidSettings` naming the path that is not in the commit.
    """
    inside = sorted({os.path.normpath(path) for path in paths})
    return hashlib.sha256("\n".join(f"{path}={_object_at(source, path)}" for path in inside).encode()).hexdigest()


def range_since_release(source: Source) -> str:
    """The commits since the last version that is not this commit itself, as `<commit>..<commit>`; without one all that lead here, as
    `<commit>`.
    """
    here = Path(source.path)
    merged = _version_tags(_git(["tag", "--merged", str(source.sha)], directory=here))
    at_it = _version_tags(_git(["tag", "--points-at", str(source.sha)], directory=here))
    _, name = max(((version, name) for version, name in merged.items() if version not in at_it), default=(None, ""))
    if not name:
        return str(source.sha)
    return f"{_git(['rev-parse', '--verify', f'refs/tags/{name}^{{commit}}'], directory=here)}..{source.sha}"


def history(source: Source) -> Path:
    """The repository's Git folder, which holds every commit and none of its files."""
    return Path(_git(["rev-parse", "--path-format=absolute", "--git-common-dir"], directory=Path(source.path)))


def export(source: Source, folder: Path) -> None:
    """Writes the commit's files, and nothing else, into the new `folder`; every file carries the commit's time.

    Builds read from an export, since checks leave caches and links behind in the checkout.
    """
    folder.mkdir(parents=True)
    with tempfile.TemporaryDirectory() as scratch:
        index = {"GIT_INDEX_FILE": str(Path(scratch) / "index")}
        here = Path(source.path)
        _git(["read-tree", str(source.sha)], directory=here, settings=index)
        _git(["checkout-index", "--all", "--force", f"--prefix={folder}{os.sep}"], directory=here, settings=index)
    at = source.committed_at.timestamp()
    for entry in sorted(folder.rglob("*"), reverse=True):
        os.utime(entry, (at, at), follow_symlinks=False)


@contextlib.contextmanager
def use_of(folder: Path, *, exclusive: bool = False) -> Iterator[None]:
    """Holds a checkout: many may use it at once, and nobody makes it clean (`exclusive`) while somebody does."""
    with _locked(folder.with_suffix(".lock"), shared=not exclusive):
        yield


def _refuse_odd(repository: str) -> None:
    parts = urlsplit(repository) if "://" in repository else None
    if not repository or repository.startswith("-") or "::" in repository:
        raise InvalidSettings(
            f"Not a repository: got {repository[:80]!r}, expected an https or ssh address or a path.", next="correct GREENROOM_REPOSITORY."
        )
    if parts is not None and parts.scheme not in ("https", "http", "ssh", "file"):
        raise InvalidSettings(f"Not a repository: got the protocol {parts.scheme!r}, expected https or ssh.", next="correct the address.")
    if parts is not None and parts.password:
        raise InvalidSettings(
            "The repository's address holds a password; it would appear in logs.",
            next="take it out of the address and save it as a git-credential block.",
        )


def _credential_settings(repository: str, credential: SecretStr | None) -> dict[str, str]:
    """The credential as Git settings in the environment: neither in the arguments, which everybody sees, nor in any file."""
    if credential is None or not repository.startswith(("https://", "http://")):
        return {}
    text = credential.get_secret_value()
    login = text if ":" in text else f"x-access-token:{text}"
    parts = urlsplit(repository)
    header = "Authorization: Basic " + base64.b64encode(login.encode()).decode()
    return {
        "GIT_CONFIG_COUNT": "1",
        "GIT_CONFIG_KEY_0": f"http.{parts.scheme}://{parts.netloc}/.extraHeader",
        "GIT_CONFIG_VALUE_0": header,
    }


def _fetch(mirror: Path, repository: str, sha: Sha, settings: Mapping[str, str]) -> None:
    if not (mirror / "HEAD").exists():
        shutil.rmtree(mirror, ignore_errors=True)  # half made by somebody who was ended
        mirror.parent.mkdir(parents=True, exist_ok=True)
        _git(["init", "--quiet", "--bare", str(mirror)], directory=mirror.parent)
    everything = ["+refs/heads/*:refs/heads/*", "+refs/tags/*:refs/tags/*"]
    arguments = ["fetch", "--quiet", "--prune", "--force", "--no-recurse-submodules"]
    _git([*arguments, "--", repository, *everything], directory=mirror, settings=settings, timeout=LONGEST_FETCH)
    if _has(mirror, sha):
        return
    # A pull request's commit hangs on no branch here; hosts give a commit that is asked for by name.
    with contextlib.suppress(DeliveryError):
        only = ["fetch", "--quiet", "--no-recurse-submodules", "--", repository, f"+{sha}:refs/asked/{sha}"]
        _git(only, directory=mirror, settings=settings, timeout=LONGEST_FETCH)
    if not _has(mirror, sha):
        raise InvalidSettings(f"Commit {sha} is not in {repository}.", next="push it, then start again.")


def _has(mirror: Path, sha: Sha) -> bool:
    return _run_git(["cat-file", "-e", f"{sha}^{{commit}}"], directory=mirror).returncode == 0


def _make_clean(mirror: Path, folder: Path, sha: Sha) -> None:
    """The folder holds exactly the commit: made when it is not there, made again when anything in it differs."""
    if (folder / ".git").exists():
        same = _run_git(["rev-parse", "HEAD"], directory=folder)
        status = _run_git(["status", "--porcelain", "--ignored", "--untracked-files=all"], directory=folder)
        if same.returncode == 0 and same.stdout.strip() == str(sha) and status.returncode == 0 and not status.stdout.strip():
            return
    # Links in the folder (to toolchains) are removed, never followed.
    shutil.rmtree(folder, ignore_errors=True)
    with _locked(mirror.with_suffix(".lock")):
        _git(["worktree", "prune"], directory=mirror)
        _git(["worktree", "add", "--quiet", "--force", "--detach", str(folder), str(sha)], directory=mirror)


def _describe(mirror: Path, folder: Path, repository: str, sha: Sha, *, main_branch: str, since: Sha | None) -> Source:
    author, _, seconds = _git(["log", "-1", "--format=%an%n%ct", str(sha)], directory=mirror).rpartition("\n")
    on_main = _run_git(["merge-base", "--is-ancestor", str(sha), f"refs/heads/{main_branch}"], directory=mirror).returncode == 0
    merged = _version_tags(_git(["tag", "--merged", str(sha)], directory=mirror))
    here = _version_tags(_git(["tag", "--points-at", str(sha)], directory=mirror))
    last, last_name = max(merged.items(), default=(None, ""))
    _, before_name = max(((version, name) for version, name in merged.items() if version not in here), default=(None, ""))
    count = _git(["rev-list", "--count", _since(last_name, sha)], directory=mirror)
    subjects = _git(["log", f"-{MOST_COMMITS}", "--format=%s", _since(before_name, sha)], directory=mirror)
    unseen = f"{since}..{sha}" if since and _has(mirror, since) else _since(before_name, sha)
    changes = _git(["log", f"-{MOST_COMMITS}", "--format=%H %ct", unseen], directory=mirror)
    return Source(
        repository=repository,
        sha=sha,
        path=str(folder),
        author=author,
        committed_at=datetime.fromtimestamp(int(seconds), tz=UTC),
        on_main=on_main,
        last_tag=last,
        commits_since_tag=int(count),
        commits=tuple(line[:200] for line in subjects.splitlines()),
        changes=tuple(
            Commit(name, datetime.fromtimestamp(int(seconds), tz=UTC)) for name, seconds in (line.split() for line in changes.splitlines())
        ),
    )


def _since(tag: str, sha: Sha) -> str:
    return f"refs/tags/{tag}..{sha}" if tag else str(sha)


def _version_tags(lines: str) -> dict[Semver, str]:
    """The tags that are versions; a pre-release is nothing that a next version could be counted from."""
    found = {}
    for name in lines.splitlines():
        with contextlib.suppress(InvalidSettings):
            version = Semver.parse(name)
            if not version.pre:
                found[version] = name
    return found


def _object_at(source: Source, path: str) -> str:
    asked = f"{source.sha}:" if path == "." else f"{source.sha}:{path}"
    answer = _run_git(["rev-parse", "--verify", "--quiet", "--end-of-options", asked], directory=Path(source.path))
    if answer.returncode != 0:
        raise InvalidSettings(
            f"The path {path!r} is not in commit {source.sha.short}.", next="correct `reads` or `paths` in greenroom.toml and commit it."
        )
    return answer.stdout.strip()


def _git(arguments: Sequence[str], *, directory: Path, settings: Mapping[str, str] | None = None, timeout: timedelta = LONGEST_LOOK) -> str:
    answer = _run_git(arguments, directory=directory, settings=settings, timeout=timeout)
    if answer.returncode == 0:
        return answer.stdout.strip()
    lines = [line.strip() for line in Redaction(())(answer.stderr).splitlines() if line.strip()]
    telling = [line for line in lines if line.startswith(("fatal:", "error:", "remote:", "ssh:"))] or lines
    said = " | ".join(telling[-3:])[:500]
    if _PASSING.search(said):
        raise TransientError(f"git {arguments[0]} got no answer: {said}", next="look at whether the Git host is reachable.")
    if _REFUSED.search(said):
        raise DeliveryError(f"git {arguments[0]} was refused: {said}", next="look at the git-credential block: may it read the repository?")
    if "does not appear to be a git repository" in said:
        raise InvalidSettings(f"git found no repository: {said}", next="correct GREENROOM_REPOSITORY.")
    raise DeliveryError(f"git {arguments[0]} failed: {said or f'exit code {answer.returncode}'}", next="correct what git names.")


def _run_git(
    arguments: Sequence[str], *, directory: Path, settings: Mapping[str, str] | None = None, timeout: timedelta = LONGEST_LOOK
) -> subprocess.CompletedProcess[str]:
    environment = {**tool_environment(_QUIET), **(settings or {})}
    try:
        return subprocess.run(
            ["git", *_HARDENED, *arguments],
            cwd=directory,
            env=environment,
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            errors="replace",
            timeout=timeout.total_seconds(),
            check=False,
        )
    except FileNotFoundError as missing:
        raise DeliveryError("The program 'git' was not found in PATH.", next="install git.") from missing
    except subprocess.TimeoutExpired:
        # Without the chain: the exception of subprocess carries more than a message should.
        raise TransientError(
            f"git {arguments[0]} took longer than {timeout.total_seconds():.0f} s.", next="look at whether the Git host is reachable."
        ) from None


@contextlib.contextmanager
def _locked(file: Path, *, shared: bool = False) -> Iterator[None]:
    file.parent.mkdir(parents=True, exist_ok=True)
    with file.open("a") as lock:
        kind = fcntl.LOCK_SH if shared else fcntl.LOCK_EX
        try:
            fcntl.flock(lock, kind | fcntl.LOCK_NB)
        except BlockingIOError:
            log.info("waiting for another run that uses %s", file.stem)
            fcntl.flock(lock, kind)
        yield
