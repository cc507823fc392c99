"""The prompts of a new queue: typed, from a dataset's split, or from live traffic; each once."""

from data.home import Home
from data.queues import NewQueue, Prompt
from data.store import Store


def gather(home: Home, store: Store, new: NewQueue) -> list[Prompt]:
    """The prompts that `new` asks for. Raises one line if there are none."""
    raise NotImplementedError
