"""The page as a process of its own: its command line, and what of our secrets it gets to see."""

import os
import sys

from data.home import Home
from data.secrets import ENGINE_KEY, ENVIRONMENT, admin_key
from data.settings import Address


def page_command(gateway_url: str, page: Address) -> list[str]:
    """Serves the page for the gateway there."""
    return [sys.executable, "-m", "assistant.ui", gateway_url, page.model_dump_json()]


def page_environment(page: Address, home: Home, signs_in: bool = False) -> dict[str, str]:
    """The page gets the admin key where no other machine reaches it, or where it asks people who they are."""
    env = {name: value for name, value in os.environ.items() if name not in (ENVIRONMENT, ENGINE_KEY)}
    is_ours = page.is_local and not page.behind_proxy
    return env | {ENVIRONMENT: admin_key(home)} if is_ours or signs_in else env
