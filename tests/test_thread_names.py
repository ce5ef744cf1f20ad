"""The chore that looks up names of threads before these have ended."""

from __future__ import annotations

import math
import threading
import time

import pytest

from pyprof_agent import Agent, Config
from pyprof_agent.sources import stacks_native
from pyprof_agent.thread_names import LOOK_UP_SECONDS, ThreadNames

if not stacks_native.unusable():
    from pyprof_agent._native import core


def test_it_is_due_when_there_are_newcomers_and_not_too_often() -> None:
    there: list[str] = []
    looked_up: list[str] = []
    chore = ThreadNames(lambda: bool(there), lambda: looked_up.extend(there))
    assert chore.due == math.inf
    there.append("a thread")
    assert chore.due <= time.monotonic()
    chore.run()
    assert looked_up == ["a thread"]
    assert time.monotonic() < chore.due <= time.monotonic() + LOOK_UP_SECONDS
    chore.begin()
    assert chore.due <= time.monotonic()


def test_what_fails_ends_no_worker_and_is_tried_again() -> None:
    def fail() -> None:
        raise MemoryError

    chore = ThreadNames(lambda: True, fail)
    chore.run()
    assert chore.due <= time.monotonic() + LOOK_UP_SECONDS


@pytest.mark.skipif(bool(stacks_native.unusable()), reason=stacks_native.unusable() or "-")
def test_the_worker_does_so_for_threads_that_come_and_rests_otherwise() -> None:
    agent = Agent(Config(heap=False, stack_engine="native"))
    agent.start()
    done = threading.Event()
    thread = threading.Thread(target=done.wait, name="a-newcomer")
    thread.start()
    try:
        end = time.monotonic() + 30
        while not _knows("a-newcomer") and time.monotonic() < end:
            time.sleep(0.05)
        assert _knows("a-newcomer")
        assert not core.stack_newcomers()
    finally:
        done.set()
        thread.join()
        agent.stop()


def _knows(name: str) -> bool:
    return any(labels[0].value == name for labels in list(stacks_native._labels.values()))
