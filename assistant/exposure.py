"""What must be so before other machines may reach gateway or page: somebody to let in, and somebody who encrypts."""

import ssl
from collections.abc import Sequence

from assistant.cli_store import opened_store
from data.errors import BrogueError
from data.home import Home
from data.settings import Address, Settings

_FIRST = {
    "gateway": "make a key first: brogue keys create NAME --role admin",
    "page": "make a user first: brogue users create NAME --role admin",
}


def require_guarded(home: Home, settings: Settings, parts: Sequence[str] = ("gateway", "page")) -> None:
    """Raises `BrogueError` where gateway or page would let in whoever comes, or would be read on the way."""
    for what, address in (("gateway", settings.gateway), ("page", settings.page)):
        if what not in parts:
            continue
        if is_exposed(address) and not _knows_somebody(home, what):
            raise BrogueError(f"{_whom(what, address)} would let in whoever comes; {_FIRST[what]}")
        if address.tls_certificate is not None and address.tls_key is not None:
            _check_certificate(what, address.tls_certificate, address.tls_key)
        elif not address.is_local and not address.behind_proxy:
            raise BrogueError(
                f"{_whom(what, address)} would be read by whoever is on the way; set tls_certificate and tls_key in "
                f"[{what}] of brogue.toml, or behind_proxy = true where a proxy in front of it encrypts"
            )


def is_exposed(address: Address) -> bool:
    """Whether others reach it; behind a proxy on the same machine they do as well."""
    return not address.is_local or address.behind_proxy


def _knows_somebody(home: Home, what: str) -> bool:
    from data.store_keys import Keys
    from data.store_users import Users

    with opened_store(home) as store:
        return Users(store).any() or (what == "gateway" and Keys(store).any())


def _whom(what: str, address: Address) -> str:
    return f"the {what} at {address.host}:{address.port}{', behind a proxy,' if address.behind_proxy else ''}"


def _check_certificate(what: str, certificate: str, key: str) -> None:
    try:
        ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER).load_cert_chain(certificate, key, password=lambda: "")
    except (OSError, ssl.SSLError) as error:
        reason = getattr(error, "strerror", None) or error
        raise BrogueError(
            f"tls_certificate and tls_key in [{what}] of brogue.toml cannot be used ({reason}): wanted two PEM files, "
            f"a certificate and its key without a password; found {certificate} and {key}"
        ) from error
