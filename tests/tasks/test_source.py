import logging
import threading
from collections.abc import Iterator
from datetime import UTC, datetime
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from urllib.parse import urlsplit

import pytest
from pydantic import SecretStr

from delivery.errors import DeliveryError, InvalidSettings, TransientError
from delivery.source import Semver, Sha, Source, version_of
from tasks.source import checkout, export, tree_hash
from tests.tasks.repository import Repository


@pytest.fixture
def repository(tmp_path: Path) -> Repository:
    return Repository(tmp_path / "repository")


def check_out(repository: Repository, tmp_path: Path, sha: Sha | None = None) -> Source:
    return checkout.plain(str(repository.path), sha or repository.head(), work_dir=tmp_path / "work")


def test_a_checkout_is_the_commit_with_what_git_knows_about_it(repository: Repository, tmp_path: Path) -> None:
    first = repository.commit("One", app_py="a = 1\n")
    repository.commit("Two", app_py="a = 2\n")
    source = check_out(repository, tmp_path, first)
    assert (Path(source.path) / "app.py").read_text() == "a = 1\n"
    assert source.sha == first
    assert source.author == "Ada Example"
    assert source.committed_at == datetime(2025, 6, 1, 10, tzinfo=UTC)
    assert source.on_main


def test_a_second_checkout_sees_what_was_pushed_since(repository: Repository, tmp_path: Path) -> None:
    repository.commit("One", app_py="a = 1\n")
    check_out(repository, tmp_path)
    second = repository.commit("Two", app_py="a = 2\n")
    assert (Path(check_out(repository, tmp_path, second).path) / "app.py").read_text() == "a = 2\n"


def test_a_commit_that_is_not_there_is_refused(repository: Repository, tmp_path: Path) -> None:
    repository.commit("One", app_py="a = 1\n")
    with pytest.raises(InvalidSettings, match=f"Commit {'a' * 40} is not in") as refused:
        check_out(repository, tmp_path, Sha("a" * 40))
    assert "push it" in refused.value.next


def test_a_commit_on_no_branch_is_found_when_the_host_gives_it_by_name(repository: Repository, tmp_path: Path) -> None:
    repository.commit("One", app_py="a = 1\n")
    repository.git("checkout", "--quiet", "--detach")
    asked = repository.commit("Pull request", app_py="a = 2\n")
    repository.git("update-ref", "refs/pull/7/head", str(asked))
    repository.git("checkout", "--quiet", "main")
    source = check_out(repository, tmp_path, asked)
    assert source.commits[0] == "Pull request"
    assert not source.on_main


def test_a_repository_that_is_not_there_is_refused(tmp_path: Path) -> None:
    with pytest.raises(InvalidSettings, match="gone"):
        checkout.plain(str(tmp_path / "gone"), Sha("a" * 40), work_dir=tmp_path / "work")


@pytest.mark.parametrize("dirt", ["tracked", "untracked", "ignored", "link"])
def test_a_dirty_checkout_is_made_clean(repository: Repository, tmp_path: Path, dirt: str) -> None:
    repository.commit("One", app_py="a = 1\n")
    (repository.path / ".gitignore").write_text("*.log\n")
    repository.commit("Ignore")
    folder = Path(check_out(repository, tmp_path).path)
    outside = tmp_path / "toolchain"
    outside.mkdir()
    (outside / "tool").touch()
    match dirt:
        case "tracked":
            (folder / "app.py").write_text("a = 666\n")
        case "untracked":
            (folder / "new.py").touch()
        case "ignored":
            (folder / "x.log").touch()
        case _:
            (folder / "node_modules").symlink_to(outside)
    again = Path(check_out(repository, tmp_path).path)
    assert sorted(entry.name for entry in again.iterdir()) == [".git", ".gitignore", "app.py"]
    assert (again / "app.py").read_text() == "a = 1\n"
    assert (outside / "tool").exists()


def test_hooks_of_a_repository_do_not_run(repository: Repository, tmp_path: Path) -> None:
    repository.commit("One", app_py="a = 1\n")
    check_out(repository, tmp_path)
    trace = tmp_path / "hooked"
    for mirror in (tmp_path / "work" / "mirrors").glob("*.git"):
        for name in ("post-checkout", "reference-transaction", "post-merge"):
            hook = mirror / "hooks" / name
            hook.parent.mkdir(exist_ok=True)
            hook.write_text(f"#!/bin/sh\ntouch {trace}\n")
            hook.chmod(0o755)
    check_out(repository, tmp_path, repository.commit("Two", app_py="a = 2\n"))
    assert not trace.exists()


@pytest.mark.parametrize(
    ("address", "word"),
    [
        ("", "Not a repository"),
        ("--upload-pack=touch /tmp/x", "Not a repository"),
        ("ext::sh -c whoami", "Not a repository"),
        ("ftp://host/x.git", "protocol 'ftp'"),
        ("https://me:hunter22@host/x.git", "holds a password"),
    ],
)
def test_odd_addresses_are_refused_before_git_sees_them(address: str, word: str, tmp_path: Path) -> None:
    with pytest.raises(InvalidSettings, match=word) as refused:
        checkout.plain(address, Sha("a" * 40), work_dir=tmp_path)
    assert "hunter22" not in str(refused.value)


class TestVersions:
    def test_a_tagged_commit_is_that_version(self, repository: Repository, tmp_path: Path) -> None:
        repository.commit("One", app_py="a = 1\n")
        repository.tag("v1.4.2")
        assert version_of(check_out(repository, tmp_path), None) == Semver(1, 4, 2)

    def test_a_later_commit_counts_on_from_the_highest_version_that_it_contains(self, repository: Repository, tmp_path: Path) -> None:
        repository.commit("One", app_py="a = 1\n")
        repository.tag("v1.10.0")
        repository.commit("Two")
        repository.tag("v1.9.9")
        repository.tag("v2.0.0-rc.1")
        repository.tag("not-a-version")
        repository.commit("Three")
        source = check_out(repository, tmp_path)
        assert source.last_tag == Semver(1, 10, 0)
        assert version_of(source, None) == Semver(1, 10, 1, "main.2")

    def test_without_any_tag_the_line_begins_at_0_0_1(self, repository: Repository, tmp_path: Path) -> None:
        repository.commit("One")
        repository.commit("Two")
        assert version_of(check_out(repository, tmp_path), None) == Semver(0, 0, 1, "main.2")

    def test_a_wanted_version_is_taken(self, repository: Repository, tmp_path: Path) -> None:
        repository.commit("One")
        assert version_of(check_out(repository, tmp_path), Semver(3, 0, 0)) == Semver(3, 0, 0)

    def test_the_commits_are_those_since_the_version_before(self, repository: Repository, tmp_path: Path) -> None:
        repository.commit("One")
        repository.tag("v1.0.0")
        repository.commit("Two")
        repository.commit("Three")
        repository.tag("v1.1.0")
        assert check_out(repository, tmp_path).commits == ("Three", "Two")

    def test_the_changes_are_the_commits_that_production_has_not_seen(self, repository: Repository, tmp_path: Path) -> None:
        seen = repository.commit("One")
        repository.tag("v1.0.0")
        repository.git("checkout", "--quiet", "-b", "aside")
        aside = repository.commit("Aside")
        repository.git("checkout", "--quiet", "main")
        unreleased = repository.commit("Two")
        repository.tag("v1.1.0")  # which never went to production
        repository.git("merge", "--quiet", "--no-ff", "--message", "Merge", "aside")
        merge = repository.head()
        source = checkout.plain(str(repository.path), merge, work_dir=tmp_path / "work", since=seen)
        assert {change.sha for change in source.changes} == {str(sha) for sha in (merge, aside, unreleased)}
        assert {change.committed_at for change in source.changes} == {datetime(2025, 6, 1, 10, tzinfo=UTC)}

    @pytest.mark.parametrize("since", [None, Sha("a" * 40)])
    def test_without_a_production_to_compare_with_they_count_from_the_last_version(
        self, repository: Repository, tmp_path: Path, since: Sha | None
    ) -> None:
        repository.commit("One")
        repository.tag("v1.0.0")
        two = repository.commit("Two")
        source = checkout.plain(str(repository.path), two, work_dir=tmp_path / "work", since=since)
        assert [change.sha for change in source.changes] == [str(two)]


class TestTreeHash:
    def test_it_tells_whether_the_content_differs_and_nothing_else(self, repository: Repository, tmp_path: Path) -> None:
        one = check_out(repository, tmp_path, repository.commit("One", api__a_py="1", web__b_ts="1"))
        two = check_out(repository, tmp_path, repository.commit("Two", web__b_ts="2"))
        assert tree_hash(one, ["api"]) == tree_hash(two, ["./api/"])
        assert tree_hash(one, ["web"]) != tree_hash(two, ["web"])
        assert tree_hash(one, ["."]) != tree_hash(two, ["."])
        assert tree_hash(one, ["api"]) != tree_hash(one, ["web"])

    @pytest.mark.parametrize("path", ["gone", "../outside", "--all"])
    def test_a_path_that_is_not_in_the_commit_is_refused(self, repository: Repository, tmp_path: Path, path: str) -> None:
        source = check_out(repository, tmp_path, repository.commit("One", api__a_py="1"))
        with pytest.raises(InvalidSettings, match="is not in commit"):
            tree_hash(source, [path])


def test_an_export_holds_the_commit_and_nothing_that_checks_left(repository: Repository, tmp_path: Path) -> None:
    source = check_out(repository, tmp_path, repository.commit("One", api__a_py="1", top_txt="t"))
    (Path(source.path) / "api" / "a.py").write_text("changed by a check")
    (Path(source.path) / "node_modules").mkdir()
    export(source, tmp_path / "export")
    files = {str(entry.relative_to(tmp_path / "export")): entry for entry in (tmp_path / "export").rglob("*")}
    assert sorted(files) == ["api", "api/a.py", "top.txt"]
    assert files["api/a.py"].read_text() == "1"
    assert {entry.stat().st_mtime for entry in files.values()} == {source.committed_at.timestamp()}


class GitHost(ThreadingHTTPServer):
    """A host that never serves anything: it records who asked and answers with one status."""

    def __init__(self, status: int) -> None:
        self.status = status
        self.logins: list[str | None] = []
        super().__init__(("127.0.0.1", 0), Asked)

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.server_port}/team/app.git"


class Asked(BaseHTTPRequestHandler):
    server: GitHost

    def do_GET(self) -> None:
        self.server.logins.append(self.headers.get("Authorization"))
        self.send_response(self.server.status)
        if self.server.status == 401:
            self.send_header("WWW-Authenticate", 'Basic realm="git"')
        self.send_header("Content-Length", "0")
        self.end_headers()

    def log_message(self, *arguments: object) -> None:
        pass


@pytest.fixture
def host(request: pytest.FixtureRequest) -> Iterator[GitHost]:
    server = GitHost(request.param)
    thread = threading.Thread(target=server.serve_forever, args=(0.01,), daemon=True)
    thread.start()
    yield server
    server.shutdown()
    server.server_close()
    thread.join()


@pytest.mark.parametrize("host", [503], indirect=True)
def test_a_host_that_does_not_answer_is_worth_another_try(host: GitHost, tmp_path: Path) -> None:
    with pytest.raises(TransientError, match="503"):
        checkout.plain(host.url, Sha("a" * 40), work_dir=tmp_path)


@pytest.mark.parametrize("host", [401], indirect=True)
def test_the_credential_reaches_the_host_and_no_message_or_file(host: GitHost, tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.DEBUG), pytest.raises(DeliveryError, match="refused") as refused:
        checkout.plain(host.url, Sha("a" * 40), work_dir=tmp_path, credential=SecretStr("me:very-secret-token"))
    assert host.logins[0] == "Basic bWU6dmVyeS1zZWNyZXQtdG9rZW4="
    assert "git-credential block" in refused.value.next
    written = "".join(file.read_text(errors="replace") for file in tmp_path.rglob("*") if file.is_file())
    for secret in ("very-secret-token", "bWU6dmVyeS1zZWNyZXQtdG9rZW4="):
        assert secret not in str(refused.value) + caplog.text + written


@pytest.mark.parametrize("host", [404], indirect=True)
def test_a_token_alone_is_sent_with_the_name_that_github_takes(host: GitHost, tmp_path: Path) -> None:
    with pytest.raises(DeliveryError):
        checkout.plain(host.url, Sha("a" * 40), work_dir=tmp_path, credential=SecretStr("ghp_token"))
    assert host.logins == ["Basic eC1hY2Nlc3MtdG9rZW46Z2hwX3Rva2Vu"]
    assert urlsplit(host.url).hostname == "127.0.0.1"
