"""What is asked of Prefect again, and what is not."""

import json
from datetime import timedelta

import pytest

from delivery.errors import DeliveryError, InvalidSettings
from deployments.api import NO_FORM_YET, PrefectApi
from tests.prefect_stage import prefect_server
from tests.tasks.small_server import serving


def answering(monkeypatch: pytest.MonkeyPatch, *reasons: str) -> tuple[PrefectApi, list[str]]:
    """An API that refuses an answer for these reasons, one after the other, and then takes it."""
    api, asked, left = PrefectApi("http://127.0.0.1:9/api"), [], list(reasons)

    def request(method: str, path: str, body: object = None) -> dict[str, object]:  # noqa: ARG001  the method's own
        asked.append(path)
        return {"status": "REJECT", "details": {"reason": left.pop(0)}} if left else {"status": "ACCEPT"}

    monkeypatch.setattr(api, "_request", request)
    return api, asked


def test_a_form_that_is_not_there_yet_is_answered_once_it_is(monkeypatch: pytest.MonkeyPatch) -> None:
    api, asked = answering(monkeypatch, NO_FORM_YET, NO_FORM_YET)
    api.resume("run", {"decision": "approve"})
    assert asked == ["/flow_runs/run/resume"] * 3


def settings_page(vacuum: object) -> dict[str, tuple[int, str]]:
    return {"/admin/settings": (200, json.dumps({"server": {"services": {"db_vacuum": vacuum}}}))}


@pytest.mark.parametrize(
    ("enabled", "kept"),
    [(["events"], None), ([], None), (["events", "flow_runs"], timedelta(days=90)), (["flow_runs"], timedelta(days=90))],
)
def test_runs_are_kept_for_ever_unless_the_server_deletes_runs_too(enabled: list[str], kept: timedelta | None) -> None:
    with serving(settings_page({"enabled": enabled, "retention_period": "P90D"})) as url:
        assert PrefectApi(url).runs_kept() == kept


@pytest.mark.parametrize("vacuum", [None, {}, {"enabled": ["flow_runs"]}, {"enabled": True, "retention_period": "P1D"}])
def test_a_server_that_does_not_tell_how_long_it_keeps_runs_is_not_believed_to_keep_or_delete_them(vacuum: object) -> None:
    with serving(settings_page(vacuum)) as url, pytest.raises(DeliveryError, match="does not tell"):
        PrefectApi(url).runs_kept()


@pytest.mark.prefect
def test_the_server_of_a_stage_deletes_runs_after_prefects_own_ninety_days() -> None:
    assert PrefectApi(prefect_server().api_url).runs_kept() == timedelta(days=90)


def test_an_answer_that_is_refused_is_given_once(monkeypatch: pytest.MonkeyPatch) -> None:
    api, asked = answering(monkeypatch, "Error validating run input")
    with pytest.raises(InvalidSettings, match="refused the answer: Error validating run input"):
        api.resume("run", {"decision": "approve"})
    assert len(asked) == 1
