"""The id of a home's gateway, by which the gateways of one store tell each other apart."""

import os
from contextlib import suppress

from data.errors import BrogueError
from data.files import is_id, new_id
from data.home import Home, staged

FILE = "gateway.id"
_KIND = "gateway"


def gateway_id(home: Home) -> str:
    """What `<home>/gateway.id` holds; it is made at first use.

    A home that was lost comes back with another id. A copy of a home must not take the file along: two gateways with
    one id write over each other's counts.
    """
    path = home.root / FILE
    if not path.exists():
        with staged(path, f"{new_id(_KIND)}\n") as made, suppress(FileExistsError):
            os.link(made, path)  # of two processes at once, the first one's id stays
    found = path.read_text(encoding="utf-8", errors="replace").strip()
    if not is_id(found, _KIND):
        raise BrogueError(f"{path} holds no gateway's id; remove it and a new one is made at the next start")
    return found
