"""Threads that wait do not spin where others want the processor."""

import os
import sys

import pytest

from adapters.threads import WAITING, share_processor


@pytest.mark.parametrize(
    ("load", "serving", "given", "shared"),
    [
        (0.0, False, {}, False),
        (0.0, True, {}, True),
        (64.0, False, {}, True),
        (64.0, True, {"OMP_WAIT_POLICY": "ACTIVE"}, False),  # a person has said how it is to be
        (64.0, True, {WAITING: "1000"}, False),
    ],
)
def test_threads_sleep_while_they_wait_where_the_processor_is_shared(
    monkeypatch: pytest.MonkeyPatch, load: float, serving: bool, given: dict[str, str], shared: bool
) -> None:
    monkeypatch.setattr(os, "getloadavg", lambda: (load, load, load))
    monkeypatch.delitem(sys.modules, "torch", raising=False)
    environment = dict(given)
    assert share_processor(serving, environment) is shared
    assert environment == (given | {WAITING: "0"} if shared else given)


def test_it_is_too_late_once_pytorch_is_there(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "torch", sys)
    environment: dict[str, str] = {}
    assert not share_processor(True, environment) and not environment
