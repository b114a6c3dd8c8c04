"""Where Prefect's server is, for a terminal. Prefect itself is not imported: that alone takes seconds."""

import os

from blocks.settings import Settings
from deployments.api import PrefectApi


def open_api(settings: Settings) -> PrefectApi:
    """At PREFECT_API_URL, else beside the UI that the settings name."""
    return PrefectApi(os.environ.get("PREFECT_API_URL") or f"{settings.ui_url.rstrip('/')}/api")
