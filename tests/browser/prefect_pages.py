"""Prefect's older UI, as a person uses it for a release: the form of a deployment, the page of a run, the form of a waiting run."""

import re
from typing import Any

from playwright.sync_api import Locator, Page, Response, expect
from playwright.sync_api import TimeoutError as PlaywrightTimeout

PATIENCE_MS = 120_000


class PrefectPages:
    def __init__(self, page: Page, url: str) -> None:
        self._page = page
        self._url = url
        page.set_default_timeout(60_000)

    def start(self, deployment: str, **parameters: str) -> None:
        """Searched for in the list of deployments: Run, Custom run, the form, Submit; then the new run's page."""
        page = self._page
        page.goto(f"{self._url}/deployments")
        page.get_by_placeholder("Search deployments").fill(deployment)  # the list shows ten at a time
        expect(page.get_by_text("1 Deployment", exact=True)).to_be_visible()
        page.get_by_role("link", name=deployment, exact=True).first.click()
        page.get_by_role("button", name="Run", exact=True).click()
        page.get_by_text("Custom run").click()
        for name, value in parameters.items():
            self._field(page.locator("body"), name).fill(value)
        page.goto(f"{self._url}/runs/flow-run/{self._submit()['id']}")

    def _submit(self) -> Any:
        return self._press(self._page.get_by_role("button", name="Submit", exact=True), "create_flow_run").json()

    def _press(self, submit: Locator, call: str) -> Response:
        """Presses Submit, and again as a person would while Prefect says `Service Unavailable`: its SQLite is locked now and then."""
        for attempt in range(6):
            with self._page.expect_response(re.compile(rf"/{call}$")) as made:
                submit.click()
            if made.value.status != 503:
                break
            self._page.wait_for_timeout(500 * (attempt + 1))
        assert made.value.ok, made.value.text()
        return made.value

    @property
    def run_id(self) -> str:
        """The run whose page is open."""
        found = re.search(r"/flow-run/([0-9a-f-]{36})", self._page.url)
        assert found, f"no run's page: {self._page.url}"
        return found[1]

    def wait_for(self, state: str) -> None:
        """The run's badge says so; the page follows the run by itself."""
        expect(self._page.get_by_text(state, exact=True).first).to_be_visible(timeout=PATIENCE_MS)

    def open_form(self) -> Locator:
        """Resume is a button on the run's page, and it opens the form."""
        resume = self._page.get_by_role("button", name="Resume", exact=True)
        self._load_again_while_blank()
        expect(resume).to_be_visible(timeout=PATIENCE_MS)
        resume.click()
        form = self._page.get_by_role("dialog").last
        expect(form.get_by_text("Approver")).to_be_visible()
        return form

    def _load_again_while_blank(self) -> None:
        """Prefect's page was seen to stay empty when the server was slow to answer its first question: a person loads it again."""
        anything = self._page.get_by_role("link").first
        for _ in range(3):
            try:
                anything.wait_for(state="visible", timeout=PATIENCE_MS / 4)
            except PlaywrightTimeout:
                self._page.reload()
            else:
                return

    def answer(self, form: Locator, *, decision: str, approver: str, reason: str) -> None:
        self._field(form, "Decision").fill(decision)
        self._field(form, "Approver").fill(approver)
        self._field(form, "Reason").fill(reason)
        self._press(form.get_by_role("button", name="Submit", exact=True), "resume")
        expect(form).to_be_hidden()

    @staticmethod
    def _property(within: Locator, label: str) -> Locator:
        # The labels of these forms do not point at their fields.
        named = within.page.locator(".schema-form-property__label", has_text=re.compile(rf"^\s*{label}\b"))
        return within.locator(".schema-form-property").filter(has=named)

    def _field(self, within: Locator, label: str) -> Locator:
        return self._property(within, label).locator("textarea, input").first
