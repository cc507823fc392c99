"""The store that `brogue.toml` names, with the redactor that its logging wants."""

from collections.abc import Sequence

from data.home import Home
from data.redaction import Redactor
from data.settings import StoreSettings, load_settings
from data.store import Store


def open_store(home: Home, settings: StoreSettings | None = None) -> Store:
    """The store of `home`, by `settings` or else by its `brogue.toml`."""
    settings = settings or load_settings(home.settings_file).store
    redact = redacted if settings.logging == "redacted" else None
    return Store.open(home, settings.url, settings.logging, redact)


def redacted(texts: Sequence[str]) -> list[str]:
    """The texts of one record with placeholders; the same value has the same one in all of them."""
    redactor = Redactor()
    for text in texts:
        redactor.reserve(text)
    return [redactor.text(text) for text in texts]
