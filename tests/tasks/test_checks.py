import sys
import threading
from datetime import date
from pathlib import Path

import pytest

from delivery.application import Application, Named, Service, Toolchain
from delivery.check import CheckResult
from delivery.check_settings import CheckSettings
from delivery.errors import DeliveryError, InvalidSettings, TransientError
from delivery.gate import Gate
from delivery.source import Source
from tasks.checks import run_check, verify
from tasks.source import checkout
from tasks.toolchains import prepare_toolchain, prepare_toolchains
from tests.tasks.repository import Repository

TODAY = date(2026, 3, 1)
WORKER = Service(name="worker", kind="worker", context="api", dockerfile="api/Dockerfile", ready=("true",))


@pytest.fixture
def repository(tmp_path: Path) -> Repository:
    made = Repository(tmp_path / "repository")
    made.commit("One", api__app_py="a = 1\n", web__page_ts="let a = 1\n", requirements_txt="tool==1\n")
    return made


def check_out(repository: Repository, tmp_path: Path) -> Source:
    return checkout.plain(str(repository.path), repository.head(), work_dir=tmp_path / "work")


def python(name: str, code: str, *, reads: tuple[str, ...] = ("api",), toolchain: str | None = None, timeout: int = 60) -> CheckSettings:
    return CheckSettings(name, (sys.executable, "-c", code), toolchain=toolchain, reads=reads, timeout_seconds=timeout)


def application(*checks: CheckSettings, **toolchains: Toolchain) -> Application:
    return Application(application=Named("app"), service=(WORKER,), check=checks, toolchains=toolchains)


def counting(file: Path, then: str = "") -> str:
    """Code that leaves one byte in `file` each time it runs."""
    return f"open({str(file)!r}, 'a').write('x'); {then}"


class TestVerify:
    def test_it_returns_every_answer_in_the_order_of_the_file(self, repository: Repository, tmp_path: Path) -> None:
        checks = [python(name, "pass") for name in ("ruff", "pytest", "jest")]
        results = verify(check_out(repository, tmp_path), application(*checks), work_dir=tmp_path / "work")
        assert [(result.name, result.passed) for result in results] == [("ruff", True), ("pytest", True), ("jest", True)]

    def test_all_checks_run_to_their_end_and_each_failing_one_is_named_with_its_place(self, repository: Repository, tmp_path: Path) -> None:
        ran = tmp_path / "ran"
        broken = python("ruff", "print('api/app.py:1:1: F401 unused'); raise SystemExit(1)")
        also = python("jest", "print('web/page.ts:7:3: wrong'); raise SystemExit(1)")
        with pytest.raises(DeliveryError) as refused:
            verify(check_out(repository, tmp_path), application(broken, python("fine", counting(ran)), also), work_dir=tmp_path / "work")
        assert refused.value.what == "ruff failed:\n  api/app.py:1:1: F401 unused\njest failed:\n  web/page.ts:7:3: wrong"
        assert "ruff.log; run `" in refused.value.next
        assert ran.read_text() == "x"

    def test_a_finding_that_stands_far_before_the_end_is_still_told(self, repository: Repository, tmp_path: Path) -> None:
        code = "print('api/app.py:1:1: F401 unused'); [print('noise') for _ in range(1000)]; raise SystemExit(1)"
        with pytest.raises(DeliveryError, match="F401 unused"):
            verify(check_out(repository, tmp_path), application(python("ruff", code)), work_dir=tmp_path / "work")

    def test_a_check_that_takes_too_long_says_so(self, repository: Repository, tmp_path: Path) -> None:
        slow = python("slow", "import time; time.sleep(600)", timeout=1)
        with pytest.raises(DeliveryError, match=r"slow failed:\n.*timed out after 1 s"):
            verify(check_out(repository, tmp_path), application(slow), work_dir=tmp_path / "work")

    def test_a_missing_tool_is_named_beside_what_the_others_found(self, repository: Repository, tmp_path: Path) -> None:
        gone = CheckSettings("gone", ("no-such-tool",), reads=("api",))
        with pytest.raises(DeliveryError, match="no-such-tool"):
            verify(check_out(repository, tmp_path), application(gone, python("fine", "pass")), work_dir=tmp_path / "work")

    def test_checks_run_side_by_side(self, repository: Repository, tmp_path: Path) -> None:
        mine, other = tmp_path / "a", tmp_path / "b"
        meet = (
            "import pathlib, time\npathlib.Path({0!r}).touch()\nend = time.monotonic() + 30\n"
            "while not pathlib.Path({1!r}).exists():\n    assert time.monotonic() < end\n    time.sleep(0.02)\n"
        )
        checks = [python("a", meet.format(str(mine), str(other))), python("b", meet.format(str(other), str(mine)))]
        results = verify(check_out(repository, tmp_path), application(*checks), work_dir=tmp_path / "work", at_once=2)
        assert all(result.passed for result in results)


class TestCache:
    def run(self, repository: Repository, tmp_path: Path, check: CheckSettings) -> CheckResult:
        return run_check(check, check_out(repository, tmp_path), None, work_dir=tmp_path / "work", gate=Gate(TODAY))

    def test_what_passed_is_not_looked_at_again_until_what_it_reads_changes(self, repository: Repository, tmp_path: Path) -> None:
        ran = tmp_path / "ran"
        check = python("pytest", counting(ran))
        assert not self.run(repository, tmp_path, check).cached
        repository.commit("Elsewhere", web__page_ts="let a = 2\n")
        remembered = self.run(repository, tmp_path, check)
        assert remembered.cached
        assert remembered.passed
        assert ran.read_text() == "x"
        repository.commit("Here", api__app_py="a = 2\n")
        assert not self.run(repository, tmp_path, check).cached
        assert ran.read_text() == "xx"

    def test_another_command_is_another_check(self, repository: Repository, tmp_path: Path) -> None:
        self.run(repository, tmp_path, python("pytest", "pass"))
        assert not self.run(repository, tmp_path, python("pytest", "1")).cached

    def test_what_failed_is_looked_at_again(self, repository: Repository, tmp_path: Path) -> None:
        ran = tmp_path / "ran"
        check = python("pytest", counting(ran, "raise SystemExit(1)"))
        assert not self.run(repository, tmp_path, check).passed
        assert not self.run(repository, tmp_path, check).passed
        assert ran.read_text() == "xx"

    def test_a_half_written_memory_is_no_memory(self, repository: Repository, tmp_path: Path) -> None:
        check = python("pytest", "pass")
        self.run(repository, tmp_path, check)
        (memory,) = (tmp_path / "work" / "cache" / "checks").glob("*.json")
        memory.write_text(memory.read_text()[:20])
        assert not self.run(repository, tmp_path, check).cached


class TestToolchains:
    def toolchain(self, made: Path, code: str = "", **options: object) -> Toolchain:
        prepare = (sys.executable, "-c", f"{counting(made)} open('{{dir}}/tool', 'w').write('#!/bin/sh\\necho prepared'); {code}")
        return Toolchain(reads=("requirements.txt",), prepare=(prepare, ("chmod", "+x", "{dir}/tool")), path=("{dir}",), **options)  # type: ignore[arg-type]

    def test_it_is_made_once_per_content_of_what_it_reads(self, repository: Repository, tmp_path: Path) -> None:
        made = tmp_path / "made"
        first = prepare_toolchain.plain("py", self.toolchain(made), check_out(repository, tmp_path), work_dir=tmp_path / "work")
        repository.commit("Code only", api__app_py="a = 2\n")
        second = prepare_toolchain.plain("py", self.toolchain(made), check_out(repository, tmp_path), work_dir=tmp_path / "work")
        assert first == second
        assert made.read_text() == "x"
        repository.commit("Another tool", requirements_txt="tool==2\n")
        third = prepare_toolchain.plain("py", self.toolchain(made), check_out(repository, tmp_path), work_dir=tmp_path / "work")
        assert third.key != first.key
        assert made.read_text() == "xx"

    def test_its_tools_are_found_first(self, repository: Repository, tmp_path: Path) -> None:
        check = CheckSettings("tool", ("tool",), toolchain="py", reads=("api",))
        declared = application(check, py=self.toolchain(tmp_path / "made"))
        (result,) = verify(check_out(repository, tmp_path), declared, work_dir=tmp_path / "work")
        assert result.tail == ("prepared",)

    def test_two_makers_at_once_make_it_once(self, repository: Repository, tmp_path: Path) -> None:
        made = tmp_path / "made"
        source = check_out(repository, tmp_path)
        slow = self.toolchain(made, "import time; time.sleep(0.5)")
        makers = [
            threading.Thread(target=prepare_toolchain.plain, args=("py", slow, source), kwargs={"work_dir": tmp_path / "work"})
            for _ in range(3)
        ]
        for maker in makers:
            maker.start()
        for maker in makers:
            maker.join()
        assert made.read_text() == "x"

    def test_a_half_made_one_is_made_again(self, repository: Repository, tmp_path: Path) -> None:
        made = tmp_path / "made"
        source = check_out(repository, tmp_path)
        whole = prepare_toolchain.plain("py", self.toolchain(made), source, work_dir=tmp_path / "work")
        (whole.folder / ".ready").unlink()
        (whole.folder / "tool").write_text("half")
        prepare_toolchain.plain("py", self.toolchain(made), source, work_dir=tmp_path / "work")
        assert "prepared" in (whole.folder / "tool").read_text()
        assert made.read_text() == "xx"

    @pytest.mark.parametrize(("said", "kind"), [("HTTP error 503 Service Unavailable", TransientError), ("no such package", DeliveryError)])
    def test_one_that_cannot_be_made_says_why(self, repository: Repository, tmp_path: Path, said: str, kind: type[DeliveryError]) -> None:
        broken = self.toolchain(tmp_path / "made", f"print('error: {said}'); raise SystemExit(1)")
        with pytest.raises(DeliveryError, match=f"Toolchain py could not be prepared.*\n  error: {said}") as refused:
            prepare_toolchain.plain("py", broken, check_out(repository, tmp_path), work_dir=tmp_path / "work")
        assert type(refused.value) is kind

    def test_its_links_appear_in_the_checkout_and_are_gone_from_the_next_clean_one(self, repository: Repository, tmp_path: Path) -> None:
        linked = application(node=self.toolchain(tmp_path / "made", links={"web/node_modules": "{dir}"}))
        source = check_out(repository, tmp_path)
        (prepared,) = prepare_toolchains(source, linked, work_dir=tmp_path / "work", names=["node"]).values()
        link = Path(source.path) / "web" / "node_modules"
        assert link.readlink() == prepared.folder
        prepare_toolchains(source, linked, work_dir=tmp_path / "work", names=["node"])
        assert link.readlink() == prepared.folder
        check_out(repository, tmp_path)
        assert not link.is_symlink()
        assert (prepared.folder / "tool").exists()

    @pytest.mark.parametrize("link", ["../outside", "web/page.ts"])
    def test_a_link_out_of_the_checkout_or_over_a_file_is_refused(self, repository: Repository, tmp_path: Path, link: str) -> None:
        linked = application(node=self.toolchain(tmp_path / "made", links={link: "{dir}"}))
        with pytest.raises(InvalidSettings):
            prepare_toolchains(check_out(repository, tmp_path), linked, work_dir=tmp_path / "work", names=["node"])
