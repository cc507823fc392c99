"""Stopping a process and everything it started."""

import os
import signal

import psutil

STOP_GRACE_S = 15.0


def stop_process_group(leader: int, grace_s: float = STOP_GRACE_S) -> None:
    """SIGTERM to the session that `leader` heads, SIGKILL to what is left after `grace_s` seconds."""
    members = _group_members(leader)
    _signal_group(leader, signal.SIGTERM)
    _, alive = psutil.wait_procs(members, timeout=grace_s)
    if alive or _group_members(leader):
        _signal_group(leader, signal.SIGKILL)
        psutil.wait_procs(alive, timeout=5)


def _group_members(leader: int) -> list[psutil.Process]:
    members = []
    for process in psutil.process_iter():
        try:
            if os.getpgid(process.pid) == leader and process.status() != psutil.STATUS_ZOMBIE:
                members.append(process)
        except (ProcessLookupError, psutil.NoSuchProcess):
            continue
    return members


def _signal_group(leader: int, number: signal.Signals) -> None:
    try:
        os.killpg(leader, number)
    except ProcessLookupError:
        pass  # all of it has gone by itself
