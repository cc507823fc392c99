"""Nothing that runs beside the event loop may hold up a stream for long: the garbage collector, and other threads."""

import gc
import sys

SWITCH_S = 0.00005  # a thread that computes lets the event loop go on after so long; Python's own 5 ms would be seen


def calm_down() -> None:
    """To be called when all is imported and loaded: the collector does not look through that again.

    A full collection of what PyTorch and its like bring along takes tenths of a second, in which no token is sent.
    """
    gc.collect()
    gc.freeze()
    sys.setswitchinterval(SWITCH_S)
