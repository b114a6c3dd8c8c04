"""People decide: in the browser with nothing but Prefect's UI, and at a terminal."""

import re

import pytest
from playwright.sync_api import Page, expect

from delivery.journal import Ending
from tests.blocks.fault_proxy import Fault
from tests.browser.prefect_pages import PrefectPages
from tests.system.premises import ROWS, Premises, until

pytestmark = [pytest.mark.docker, pytest.mark.prefect]


def test_a_commit_comes_to_staging_proven_built_and_published(premises: Premises):
    release = premises.staged("1.0.0")
    run = premises.api.run(premises.begin("1.0.0"))
    assert run.message == f"Staging runs v1.0.0. Release {release.id}."
    assert premises.answers("staging") == "1.0.0"
    assert set(release.evidence) >= {"pytest", "jest", "eslint", "ruff", "e2e"}
    [running] = premises.installation.images_of("staging").values()
    assert running == set(release.images.values())
    premises.installation.run_in_live("staging", "api", ["python", "-m", "dealbrain.seed", "--profile", "staging", "--rows", str(ROWS)])
    premises.users["staging"].start()


@pytest.mark.browser
def test_a_promotion_is_started_and_approved_in_the_browser_and_goes_live(pages: PrefectPages, premises: Premises):
    release = premises.staged("1.0.0")
    premises.proxy.faults.append(Fault("PUT", "/dealbrain-web/manifests/v1.1.0$", 503, times=2))
    premises.begin("1.1.0")  # goes its way to staging meanwhile

    pages.start("promote", release=release.id, environment="production")
    premises.waiting(pages.run_id)
    form = pages.open_form()
    expect(form.get_by_text("Production to v1.0.0")).to_be_visible()
    pages.answer(form, decision="approve", approver="Grace Example", reason="staging looks good")
    run = premises.ended(pages.run_id)
    pages.wait_for("Completed")
    assert (run.state, run.message) == ("COMPLETED", "Production runs v1.0.0.")
    assert premises.answers("production") == "1.0.0"
    [word] = premises.request_of(run.id).approvals
    assert (word.person, word.decision, word.reason, word.channel) == ("Grace Example", "approve", "staging looks good", "ui")
    premises.installation.run_in_live("production", "api", ["python", "-m", "dealbrain.seed", "--profile", "staging", "--rows", str(ROWS)])
    premises.users["production"].start()


def test_a_registry_that_answers_503_twice_is_asked_again_visibly_and_the_release_is_published(premises: Premises):
    premises.staged("1.1.0")
    refused = [path for method, path, status in premises.proxy.asked if status == 503]
    assert len(refused) == 2
    tries = [line for line in premises.log_of(premises.begin("1.1.0")) if "503" in line]
    assert len(tries) >= 2, tries
    assert premises.answers("staging") == "1.1.0"


@pytest.mark.browser
def test_a_promotion_rejected_in_the_browser_leaves_production_unchanged(page: Page, pages: PrefectPages, premises: Premises):
    premises.live("1.0.0")
    release = premises.staged("1.1.0")
    link = re.search(r"waits for an approval: (\S+)", premises.api.run(premises.begin("1.1.0")).message)
    assert link, "the pipeline's last message leads to the promotion that it has asked for"
    page.goto(link[1])
    premises.waiting(pages.run_id)
    form = pages.open_form()
    expect(form.get_by_text("Production from v1.0.0 to v1.1.0 by 50 %, 100 %")).to_be_visible()
    pages.answer(form, decision="reject", approver="Rita Reviewer", reason="not before the sale ends")
    run = premises.ended(pages.run_id)
    pages.wait_for("Failed")
    request = premises.request_of(run.id)
    told = f"Production is unchanged. Request {request.number} for v1.1.0 ended: Rita Reviewer rejected it: not before the sale ends."
    assert (run.state, run.message[: len(told)]) == ("FAILED", told)
    [word] = request.approvals
    assert (word.person, word.decision, word.reason, word.channel) == ("Rita Reviewer", "reject", "not before the sale ends", "ui")
    assert not [record for record in premises.rollouts_of(release.sha) if record.environment == "production"]
    assert premises.answers("production") == "1.0.0"


def test_a_request_that_nobody_answers_in_time_ends_as_expired_and_cannot_be_approved_any_more(premises: Premises):
    premises.live("1.0.0")
    release = premises.staged("1.1.0")
    with premises.policy("production", expires_hours=0.002):
        run_id = premises.start("promote/promote", release=release.id, environment="production")
        request = premises.waiting(run_id)
    until(lambda: premises.journal.now() >= request.expires_at or None, "the expiry")
    told = premises.greenroom("approve", str(request.number), "--reason", "too late", expect=2)
    assert f"Request {request.number} expired" in told or f"Request {request.number} is closed" in told

    premises.start("recover/recover")
    run = premises.ended(run_id)
    assert run.message.startswith(f"Production is unchanged. Request {request.number} ended: nobody approved it within")
    assert premises.journal.request(request.number).approvals == ()
    assert premises.answers("production") == "1.0.0"


def test_what_was_refused_is_asked_again_and_approved_at_the_terminal(premises: Premises):
    premises.live("1.0.0")
    premises.staged("1.1.0")
    told = premises.greenroom("promote", "v1.1.0")
    run_id = told.split()[-1].rpartition("/")[2]
    request = premises.waiting(run_id)
    assert f"request {request.number}" in premises.greenroom("status", "--environment", "production")

    premises.greenroom("approve", str(request.number), "--as", "Olga Operator", "--reason", "the sale has ended", "--watch")
    run = premises.ended(run_id)
    assert (run.state, run.message) == ("COMPLETED", "Production runs v1.1.0.")
    [word] = premises.request_of(run_id).approvals
    assert (word.person, word.reason, word.channel) == ("Olga Operator", "the sale has ended", "cli")
    record = premises.last_rollout("production")
    premises.require_ended(record, Ending.LIVE, "Production runs v1.1.0.")
    assert [step for step in premises.steps_of(record.id) if step.startswith(("shift", "watch", "promote"))] == [
        "shift-50",
        "watch-50",
        "shift-100",
        "watch-100",
        "promote",
    ]
    assert premises.answers("production") == "1.1.0"
    staging, production = (premises.installation.images_of(name) for name in ("staging", "production"))
    assert staging[record.release] == production[record.release]
