"""The fixed examples of a few-shot prompt, chosen from the training records: few, short, and of many labels."""

from collections import Counter
from collections.abc import Sequence

from adapters.measure_pieces import messages
from adapters.recipes import labels as labels_of
from assistant.advice_task import rendered
from assistant.advice_types import Task
from assistant.definitions import Example
from assistant.questions import last_question
from data.dataset import Row
from data.errors import BrogueError

FEWEST, MOST = 5, 10
_SHORT = 0.7  # of the records are candidates: the shortest
_ROOM = 0.25  # of the base model's context
_BYTES_A_TOKEN = 3  # a cautious guess for every script


def fixed_examples(task: Task, train: Sequence[Row], context_length: int) -> tuple[Example, ...]:
    """Examples in the order of what they add: each shows labels that were shown least, of those the commonest.

    As many as there are labels, 5 at least and 10 at most; of answers in words, 5. Raises `BrogueError` if none fits.
    """
    wanted = min(MOST, max(FEWEST, len(task.labels)))
    room = int(context_length * _ROOM * _BYTES_A_TOKEN)
    made = {row.id: Example(user=last_question(messages(row.record)), assistant=rendered(row)) for row in train}
    sizes = {id: len(f"{one.user}{one.assistant}".encode()) for id, one in made.items()}
    longest = sorted(sizes.values())[int(_SHORT * (len(sizes) - 1))]
    left = {row.id: labels_of([row]) for row in train if sizes[row.id] <= longest}
    common = Counter(label for labels in left.values() for label in labels)
    shown: Counter[str] = Counter()
    chosen: list[Example] = []
    while left and len(chosen) < wanted:
        id = max(left, key=lambda id: (sum(not shown[label] for label in left[id]),
                                       -sum(shown[label] for label in left[id]),
                                       sum(common[label] for label in left[id])))  # fmt: skip
        labels = left.pop(id)
        if sizes[id] > room:
            continue
        room -= sizes[id]
        shown.update(labels)
        chosen.append(made[id])
    if not chosen:
        raise BrogueError(f"no training record of {task.dataset} is short enough to be an example in the prompt")
    return tuple(chosen)
