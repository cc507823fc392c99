"""How a home's files come to the other gateways' homes: not at all, or as `[shared]` of its brogue.toml says.

What writes such a file asks here for leave first, and hands over what it is to hold. Where nothing is shared that costs
nothing, and neither SQLAlchemy nor fsspec is imported.
"""

from collections.abc import Callable, Collection, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Protocol

from data.home import Home
from data.settings import Settings, load_settings

if TYPE_CHECKING:
    from data.artefacts import Artefacts
    from data.store import Store
    from data.store_follow import Follower
    from data.store_shared import Shared


class Publish(Protocol):
    """Puts files (path below the home → what it is to hold, or none: it goes) there for all, then does `then` here."""

    def __call__(self, files: Mapping[str, Path | None], then: Callable[[], object] = ...) -> None: ...


class Sharing:
    """The sharing of one home."""

    def __init__(self, home: Home) -> None:
        self._home = home

    @contextmanager
    def changing(self, what: str, under: str) -> Iterator[Publish]:
        """The newest state of the folder `under` is here, and no other gateway changes `what` until the block ends.

        Whoever writes takes a lock of the home's own besides. Raises `BrogueError` where the others cannot be reached.
        """
        with self._opened() as shared:
            if shared is None:
                yield _here_only
                return
            with shared.changing(what, under):
                yield shared.publish

    @contextmanager
    def changing_folder(self, folder: str, last: str, without: Collection[str] = ()) -> Iterator[None]:
        """As `changing`, for a folder below the home: at the end the others get it as it is then."""
        with self._opened() as shared:
            if shared is None:
                yield
                return
            with shared.changing(folder, folder):
                yield
                shared.publish_folder(folder, last, without)

    def refresh(self) -> None:
        """Bring what others have changed, where anything is shared."""
        with self._opened() as shared:
            if shared is not None:
                shared.pull()

    def artefacts(self) -> "Artefacts | None":
        """Where bytes are kept for all; none where nothing is shared."""
        from data.artefacts import Artefacts

        where = load_settings(self._home.settings_file).shared.artefacts
        return None if where is None else Artefacts(where)

    @contextmanager
    def _opened(self) -> "Iterator[Shared | None]":
        """None where nothing is shared."""
        settings = load_settings(self._home.settings_file)
        if settings.shared.artefacts is None:
            yield None
            return
        with opened_shared(self._home, settings) as shared:
            yield shared


@contextmanager
def opened_shared(home: Home, settings: Settings) -> "Iterator[Shared]":
    """The shared files of a home whose settings name artefacts."""
    from data.artefacts import Artefacts
    from data.store_home import open_store
    from data.store_shared import Shared

    assert settings.shared.artefacts is not None
    store = open_store(home, settings.store)
    try:
        yield Shared(store, Artefacts(settings.shared.artefacts), home)
    finally:
        store.close()


def follower_of(home: Home, settings: Settings, store: "Store", on_change: Callable[[], None]) -> "Follower | None":
    """What keeps the home as the others have it, not yet started; none where nothing is shared."""
    from data.artefacts import Artefacts
    from data.store_follow import Follower
    from data.store_shared import Shared

    where = settings.shared.artefacts
    return None if where is None else Follower(Shared(store, Artefacts(where), home), on_change)


def _here_only(files: Mapping[str, Path | None], then: Callable[[], object] = lambda: None) -> None:  # noqa: ARG001
    then()
