"""Reading vLLM's log: what it is doing while it starts, and why it ended."""

import re
import signal

# The latest of these seen in the log is what the engine is doing now; texts of vLLM 0.32.
_PHASES = (
    ("Starting to load model", "loading the weights"),
    ("Loading weights took", "preparing the adapters"),
    ("KV cache size", "reserving memory for conversations"),
    ("Warming up model", "warming up"),
    ("init engine", "opening its port"),
)
# "(EngineCore pid=7) ERROR 11-21 04:00:00 [core.py:9] ValueError: text" → group 1 "ValueError", group 2 "text"
_ERROR = re.compile(r"(?:^|\s|\])((?:\w+\.)*\w*(?:Error|Exception|Interrupt)): (.+)$")
# These only say that another process of the engine failed.
_CONSEQUENCES = ("Engine core initialization failed", "WorkerProc initialization failed", "cancelled")


def phase(log: str) -> str:
    """What the engine is doing, in a person's words."""
    doing = "starting its processes"
    latest = -1
    for marker, words in _PHASES:
        position = log.rfind(marker)
        if position > latest:
            latest, doing = position, words
    return doing


def death_reason(log: str, exit_code: int | None) -> str:
    """The root cause named in the log, else how the process ended."""
    for line in log.splitlines():
        match = _ERROR.search(line)
        if match and not any(words in line for words in _CONSEQUENCES):
            name = match.group(1).rsplit(".", 1)[-1]
            return f"{name}: {match.group(2).strip()[:300]}"
    if exit_code is not None and exit_code < 0:
        name = signal.Signals(-exit_code).name
        hint = ", perhaps for want of memory" if -exit_code == signal.SIGKILL else ""
        return f"killed by {name}{hint}"
    last = next((line.strip() for line in reversed(log.splitlines()) if line.strip()), "its log is empty")
    return f"exit code {exit_code}; last line of its log: {last[:300]}"
