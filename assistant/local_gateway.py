"""The gateway of this home, for commands on the same machine: they hold the admin key, whoever else has to have one."""

from assistant.client import Client
from assistant.services import load_services
from data.home import Home
from data.secrets import admin_key
from data.settings import load_settings


def local_client(home: Home) -> Client:
    """A client of what runs here; where nothing does, of what brogue.toml names."""
    services = load_services(home)
    url = services.gateway_url if services is not None else load_settings(home.settings_file).gateway.url
    return Client(url, {"Authorization": f"Bearer {admin_key(home)}"} if home.root.exists() else {})
