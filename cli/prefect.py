"""Where Prefect's server is, for a terminal. Prefect itself is not imported: that alone takes seconds."""

import os

from blocks.settings import Settings
from delivery.addresses import why_not
from delivery.errors import InvalidSettings
from deployments.api import PrefectApi


def open_api(settings: Settings) -> PrefectApi:
    """At PREFECT_API_URL, else beside the UI that the settings name. Raises `InvalidSettings` for an address that holds a login, or one
    to which PREFECT_API_AUTH_STRING would be sent in the clear.
    """
    url = os.environ.get("PREFECT_API_URL") or f"{settings.ui_url.rstrip('/')}/api"
    if why := why_not(url, secret=bool(os.environ.get("PREFECT_API_AUTH_STRING"))):
        raise InvalidSettings(f"PREFECT_API_URL: {why}.", next="correct the variable; a login belongs into PREFECT_API_AUTH_STRING.")
    return PrefectApi(url)
