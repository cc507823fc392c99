"""Working through 100,000 small objects without Python's collector looking at all of them again and again."""

import gc
from collections.abc import Iterator
from contextlib import contextmanager

_NEW_OBJECTS = 200_000  # before the collector looks; Python's own number is 700


@contextmanager
def many_objects() -> Iterator[None]:
    """In this block cycles are looked for rarely: it halves the time of reading 100,000 judgements."""
    before = gc.get_threshold()
    gc.set_threshold(_NEW_OBJECTS, *before[1:])
    try:
        yield
    finally:
        gc.set_threshold(*before)
