from dataclasses import replace
from datetime import date

import pytest

from delivery.application import Application, CheckSettings, Named, Service, Toolchain
from delivery.gate import CheckWaiver
from delivery.licences import Licences
from delivery.presets import PRESETS, Preset

API = Service("api", "web", "api", "api/Dockerfile", port=8000, routes=("/",), health="/health")
WORKER = Service("worker", "worker", "api", "api/Dockerfile.worker", ready=("true",))
PYTHON = Toolchain(reads=("requirements.txt",), prepare=())


def application(*own: CheckSettings, waivers: tuple[CheckWaiver, ...] = (), **presets: Preset) -> Application:
    return Application(
        application=Named("app"), service=(API, WORKER, API), toolchains={"python": PYTHON}, presets=presets, check=own, waiver=waivers
    )


def named(declared: Application) -> list[str]:
    return [check.name for check in declared.checks]


def test_each_preset_brings_its_checks_in_the_order_of_the_file() -> None:
    declared = application(node=Preset("web"), python=Preset("api"), repository=Preset())
    assert named(declared) == [
        *["eslint", "tsc", "npm-audit", "jest"],
        *["ruff", "black", "isort", "bandit", "pip-audit", "pytest"],
        *["gitleaks", "hadolint"],
    ]


@pytest.mark.parametrize("name", PRESETS)
def test_every_check_of_every_preset_can_be_meant(name: str) -> None:
    declared = application(**{name: Preset()})
    assert [problem for problem in declared.problems() if "check" in problem or "preset" in problem] == []


def test_a_file_adds_checks_after_the_presets() -> None:
    assert named(application(CheckSettings("licences", ("licences",)), node=Preset("web")))[-1] == "licences"


def test_a_check_of_the_same_name_takes_the_presets_place_as_a_whole() -> None:
    own = CheckSettings("black", ("black", "--check", "--fast", "."))
    declared = application(own, python=Preset("api"))
    assert named(declared) == ["ruff", "black", "isort", "bandit", "pip-audit", "pytest"]
    assert declared.checks[1] is own


def test_what_is_switched_off_is_gone_and_the_rest_stays() -> None:
    assert named(application(python=Preset("api", without=("pip-audit", "black")))) == ["ruff", "isort", "bandit", "pytest"]


def test_a_preset_looks_where_it_is_told_and_takes_the_toolchain_of_its_name() -> None:
    (ruff, *_) = application(python=Preset("api", reads=("shared",))).checks
    assert (ruff.directory, ruff.reads, ruff.toolchain) == ("api", ("api", "shared"), "python")
    (eslint, *_) = application(node=Preset("web")).checks
    assert eslint.toolchain is None


def test_each_dockerfile_is_read_once() -> None:
    assert application(repository=Preset()).checks[-1].command[-2:] == ("api/Dockerfile", "api/Dockerfile.worker")


@pytest.mark.parametrize(
    ("presets", "problem"),
    [
        ({"pyhton": Preset()}, "presets.pyhton: got 'pyhton', expected one of: python, node, repository, trivy, pnpm, safety, snyk"),
        (
            {"node": Preset(without=("jst",))},
            "presets.node.without: got 'jst', expected some of: eslint, tsc, npm-audit, licences-node, jest",
        ),
        ({"node": Preset(toolchain="nod")}, "presets.node.toolchain: got 'nod', expected one of: python"),
        (
            {"repository": Preset("api")},
            "presets.repository.directory: got 'api', expected none, since it looks at the whole repository",
        ),
    ],
)
def test_a_name_that_points_at_nothing_is_refused(presets: dict[str, Preset], problem: str) -> None:
    declared = replace(application(), service=(API,), presets=presets)
    assert declared.problems() == (problem,)


def test_a_waiver_may_name_a_check_of_a_preset_unless_that_is_switched_off() -> None:
    waiver = CheckWaiver(check="bandit", rule="B608", reason="a constant", owner="mia", until=date(2026, 12, 31))
    told = [application(waivers=(waiver,), python=Preset(without=without)).problems() for without in ((), ("bandit",))]
    assert [any("waiver.check" in problem for problem in problems) for problems in told] == [False, True]


def test_licences_are_looked_at_once_the_file_says_what_is_allowed() -> None:
    declared = replace(application(python=Preset("api"), node=Preset("web")), licences=Licences(("MIT",)))
    assert {check.name: check.allow for check in declared.checks if check.allow} == {
        "licences-python": ("MIT",),
        "licences-node": ("MIT",),
    }
    assert application(python=Preset("api", without=("black",))).left_out == {
        "black": "switched off in greenroom.toml",
        "licences-python": "greenroom.toml has no [licences]",
    }


def test_licences_of_nobodys_packages_are_refused() -> None:
    declared = replace(application(python=Preset("api")), toolchains={}, licences=Licences(("MIT",)))
    assert any("presets.python.toolchain: got none" in problem for problem in declared.problems())


def test_coverage_is_measured_where_a_least_percentage_is_declared() -> None:
    (*_, plain) = application(python=Preset("api")).checks
    (*_, measured) = application(python=Preset("api", coverage=80)).checks
    assert (plain.coverage, "--cov" in plain.command) == (None, False)
    assert (measured.coverage, "--cov" in measured.command) == (80, True)
    assert any("presets.trivy.coverage" in problem for problem in application(trivy=Preset(coverage=80)).problems())
    assert any("expected a percentage" in problem for problem in application(node=Preset(coverage=120)).problems())
