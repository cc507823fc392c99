"""How PyTorch's threads wait for each other on a processor that others use as well. Must come before torch's import.

A thread that is done spins until the others are; if one of those has no processor just then, because the engine or
another program has it, all of that time is spun away. Measured on 2 cores under a load of 10: the products of a
training step took 8.3 to 14.0 s, 0.8 to 1.3 s with threads that sleep. On a processor of one's own sleeping costs a
little, as threads wake up later; there nothing is changed. Source: libgomp's manual, GOMP_SPINCOUNT.
"""

import os
import sys
from collections.abc import MutableMapping

WAITING = "GOMP_SPINCOUNT"
_CHOSEN = (WAITING, "OMP_WAIT_POLICY")  # a person has said how it is to be


def share_processor(serving: bool, environment: MutableMapping[str, str] = os.environ) -> bool:
    """Let threads sleep while they wait, if Brogue is serving here or the machine is busy; whether it did so."""
    busy = serving or os.getloadavg()[0] >= (os.cpu_count() or 1) / 2
    if not busy or "torch" in sys.modules or any(environment.get(name) for name in _CHOSEN):
        return False
    environment[WAITING] = "0"
    return True
