"""Keeps a home as the shared table says, in a thread: told by PostgreSQL's NOTIFY, and looking by itself every second.

So a change is here within `POLL_S` and the time that its bytes take, also where no notice comes through (a pooler in
between, a connection that broke unnoticed).
"""

import logging
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

from data.errors import one_line
from data.store_shared import CHANNEL, Shared

_LOG = logging.getLogger("brogue.shared")
POLL_S = 1.0


class Follower:
    """`on_change` is called in its thread, after files were changed here. `listens`: NOTIFY is heeded, too."""

    def __init__(
        self, shared: Shared, on_change: Callable[[], None], poll_s: float = POLL_S, listens: bool = True
    ) -> None:
        self._shared, self._on_change = shared, on_change
        self._poll_s, self._listens = poll_s, listens
        self._stopping = threading.Event()
        self._connection: Any = None
        self._trouble = ""
        self._thread = threading.Thread(target=self._run, name="shared", daemon=True)

    def start(self) -> None:
        self._thread.start()

    def stop(self) -> None:
        """Returns when it has ended: within a second, or when what it fetches is here."""
        self._stopping.set()
        if self._thread.ident is not None:
            self._thread.join(timeout=30)

    @contextmanager
    def running(self) -> Iterator[None]:
        """While the block runs."""
        self.start()
        try:
            yield
        finally:
            self.stop()

    def _run(self) -> None:
        while not self._stopping.is_set():
            self._look()
            self._wait()
        self._close()

    def _look(self) -> None:
        """What goes wrong is told once, and tried again."""
        try:
            pulled = self._shared.pull()
        except Exception as error:  # the thread's edge: without it this home would hear of nothing any more
            self._tell(one_line(error, 300))
            return
        self._tell("; ".join(pulled.problems))
        if pulled.changed:
            _LOG.info("from the other gateways: %s", ", ".join(pulled.changed))
            self._on_change()

    def _wait(self) -> None:
        """Until there is a notice, or it is time to look."""
        if not self._listens:
            self._stopping.wait(self._poll_s)
            return
        try:
            if self._connection is None:
                self._connection = self._shared.store.connect()
                self._connection.connection.driver_connection.execute(f"LISTEN {CHANNEL}")
                return  # what was changed before it listened is looked at first
            for _ in self._connection.connection.driver_connection.notifies(timeout=self._poll_s, stop_after=1):
                pass
        except Exception as error:  # the driver's own errors: it is not imported where it is not installed
            self._tell(f"no notices ({type(error).__name__})")
            self._close()
            self._stopping.wait(self._poll_s)

    def _close(self) -> None:
        if self._connection is not None:
            self._connection.invalidate()
            self._connection.close()
            self._connection = None

    def _tell(self, trouble: str) -> None:
        if trouble and trouble != self._trouble:
            _LOG.warning("%s", trouble)
        self._trouble = trouble
