"""Waiting until a job's model answers: the gateway loads it by itself, and says so or why not."""

import time
from collections.abc import Callable

from assistant.client import Admin, GatewayError
from assistant.services import running_gateway
from data.errors import BrogueError
from data.home import Home
from data.judgements import EXAM_HEADER

_LOOK_S = 0.5
_ASKED = [{"role": "user", "content": "Hello"}]


class NotServed(BrogueError):
    """The gateway has looked at the version and refuses it."""


def wait_served(home: Home, adapter: str, version: int, go_on: Callable[[], bool]) -> bool:
    """Whether the version answers under its adapter's name; false if `go_on` said no before. Raises `NotServed`."""
    while go_on():
        gateway = running_gateway(home)
        if gateway is not None and _answers(Admin(*gateway), adapter, version):
            return True
        time.sleep(_LOOK_S)
    return False


def _answers(admin: Admin, adapter: str, version: int) -> bool:
    try:
        described = admin.adapter(adapter)
        one = next((one for one in described["versions"] if one["version"] == version), None)
        if one is not None and one["status"] == "refused":
            raise NotServed(one["detail"])
        if one is None or described["aliases"].get("stable") != version:
            return False
        # It is loaded for the question if need be. As an exam's it is kept nowhere and counts for nobody.
        asking = Admin(admin.url, "")
        asking.headers |= admin.headers | {EXAM_HEADER: f"{adapter}@{version}"}
        return bool(asking.answers(adapter, _ASKED, max_tokens=4))
    except GatewayError:
        return False  # the engine is starting, or the gateway is
