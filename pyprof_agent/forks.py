"""What happens to the agents when the process forks, and when it ends."""

from __future__ import annotations

import atexit
import contextlib
import logging
import os
import threading
import time
from collections.abc import Iterator
from typing import Any, Protocol

LIFE_SECONDS = 1.0
"""How long a fork waits for a start or stop under way in another thread."""

WAY_SECONDS = 0.0002
"""How long a start or stop that has ended lets others go first. Neither our lock nor the GIL is
fair: beside a thread that starts and stops all the time the others would wait for ever, as it has
both again before they wake up (some 0.05 ms)."""

_LOG = logging.getLogger("pyprof_agent")


class Agent(Protocol):
    """What is needed of an agent. All of it is called with `life()` held."""

    def stop(self) -> None: ...
    def before_fork(self) -> None: ...
    def after_fork(self, *, child: bool) -> None: ...


# One for all agents, and re-entrant: a signal handler, or a fork hook of the program's, may
# start, stop or fork in the middle of a start.
_life: Any = threading.RLock()
_followed: set[Agent] = set()  # not weak: who drops a running agent is still profiled
# What forks are under way, by thread; several where a signal handler forks in the middle of one.
_forking: dict[int, list[tuple[tuple[Agent, ...], Any]]] = {}


@contextlib.contextmanager
def life() -> Iterator[None]:
    """Held by whoever starts or stops an agent, and by whoever forks.

    So a fork never meets an agent that is half started: the thread that would go on with it,
    and release what it holds, does not exist in the child.
    """
    with _life:
        yield
    time.sleep(WAY_SECONDS)


def follow(agent: Agent) -> None:
    """Tell an agent of forks, and stop it at the end of the process."""
    _followed.add(agent)


def forget(agent: Agent) -> None:
    """The opposite of `follow`. Does nothing for an agent that is not followed."""
    _followed.discard(agent)


def _before_fork() -> None:
    # With a time limit: a fork that waits for ever is worse than one that meets a start.
    lock = _life
    held = lock if lock.acquire(timeout=LIFE_SECONDS) else None
    # The very same agents go on afterwards, whoever starts or stops one meanwhile.
    agents = tuple(_followed)
    _forking.setdefault(threading.get_ident(), []).append((agents, held))
    for agent in agents:
        with _unharmed():
            agent.before_fork()


def _after_fork(*, child: bool) -> None:
    global _life
    thread = threading.get_ident()
    under_way = _forking.pop(thread, [])
    agents, held = under_way.pop() if under_way else ((), None)
    if child:
        # Other threads that held it, or were about to fork, are not in this process.
        _life = threading.RLock()
        _forking.clear()
    if under_way:
        _forking[thread] = under_way
    for agent in agents:
        with _unharmed():
            agent.after_fork(child=child)
    if held is not None and not child:
        held.release()


@contextlib.contextmanager
def _unharmed() -> Iterator[None]:
    try:
        yield
    except Exception:
        _LOG.exception("the profiler could not follow a fork; the program goes on without")


def _stop_all() -> None:
    for agent in tuple(_followed):
        agent.stop()


# At the import and not at the first start: a fork then never meets a process half hooked. As
# hooks before a fork run last first, those of the program run while nothing of ours is held.
atexit.register(_stop_all)
if hasattr(os, "register_at_fork"):
    os.register_at_fork(
        before=_before_fork,
        after_in_parent=lambda: _after_fork(child=False),
        after_in_child=lambda: _after_fork(child=True),
    )
