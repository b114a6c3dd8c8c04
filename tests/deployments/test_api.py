"""What is asked of Prefect again, and what is not."""

import pytest

from delivery.errors import InvalidSettings
from deployments.api import NO_FORM_YET, PrefectApi


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


def test_an_answer_that_is_refused_is_given_once(monkeypatch: pytest.MonkeyPatch) -> None:
    api, asked = answering(monkeypatch, "Error validating run input")
    with pytest.raises(InvalidSettings, match="refused the answer: Error validating run input"):
        api.resume("run", {"decision": "approve"})
    assert len(asked) == 1
