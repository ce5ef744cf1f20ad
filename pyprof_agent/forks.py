"""What happens to the agents when the process forks, and when it ends."""

from __future__ import annotations

import atexit
import contextlib
import logging
import os
import threading
import time
import weakref
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import partial
from typing import Any, Protocol

from pyprof_agent import fork_warning
from pyprof_agent._native import unusable as extension_unusable
from pyprof_agent.hidden_thread import HIDDEN, forget_in_child
from pyprof_agent.pauses import pause

if not extension_unusable():
    from pyprof_agent._native import core

LIFE_SECONDS = 1.0
"""How long a fork waits for a start or stop under way in another thread, and such a thread for a
fork: hooks of the program's run in the middle of one, and may wait for that thread."""

WAY_SECONDS = 0.0002
"""How long a start or stop that has ended lets others go first. Neither our lock nor the GIL is
fair: beside a thread that starts and stops all the time the others would wait for ever, as it has
both again before they wake up (some 0.05 ms)."""

_LOG = logging.getLogger("pyprof_agent")


class LockOwner(Protocol):
    _lock: Any


class Agent(Protocol):
    """What is needed of an agent. Nobody starts or stops one meanwhile, but see `LIFE_SECONDS`."""

    def stop(self) -> None: ...
    def before_fork(self) -> None: ...
    def after_fork(self, *, child: bool) -> None: ...


@dataclass(eq=False, slots=True)
class _Fork:
    """One that is under way.

    begun: when, by the monotonic clock
    agents: those that were there before it
    """

    begun: float
    agents: tuple[Agent, ...] = ()


# One for all agents, and re-entrant: a signal handler, or a fork hook of the program's, may
# start, stop or fork in the middle of a start.
_life: Any = threading.RLock()
_followed: set[Agent] = set()  # not weak: who drops a running agent is still profiled
# By thread; several where a signal handler forks in the middle of one.
_forking: dict[int, list[_Fork]] = {}
_process = os.getpid()  # which all this is about
_adopter = 0  # the thread of a child that takes notice of its fork just now
_problem = ""
_in_child: list[Callable[[], None]] = []
_lock_owners: weakref.WeakSet[LockOwner] = weakref.WeakSet()


@contextlib.contextmanager
def life() -> Iterator[None]:
    """Held by whoever starts or stops an agent. A fork waits for them, and they for a fork.

    So a fork never meets an agent that is half started: the thread that would go on with it,
    and release what it holds, does not exist in the child.
    """
    notice()
    nested = _life._is_owned()  # then a fork waits for us
    end = time.monotonic() + LIFE_SECONDS
    while True:
        with _life:
            if nested or not _others_fork() or time.monotonic() > end:
                yield
                break
        pause(WAY_SECONDS)
    pause(WAY_SECONDS)


def _others_fork() -> bool:
    """Whether another thread is in the middle of a fork. One of long ago was interrupted in our
    hook, by a signal handler that raises."""
    mine, since = threading.get_ident(), time.monotonic() - LIFE_SECONDS
    return any(
        thread != mine and forks and forks[-1].begun > since
        for thread, forks in tuple(_forking.items())
    )


def in_child(function: Callable[[], None]) -> None:
    """Have a function called in each forked child before its agents go on: to make locks anew,
    which threads may hold that the child does not have."""
    _in_child.append(function)


def lock_of(owner: LockOwner) -> Any:
    """A re-entrant lock to be kept as `owner._lock`; another is put there in each forked child.

    Whether or not an agent runs there: a thread may still make its profile when it has stopped.
    """
    _lock_owners.add(owner)
    return threading.RLock()


def notice() -> str:
    """Follow a fork that CPython's hooks were not told of, by C code such as uWSGI's.

    Where the heap is sampled by the extension it is noticed without a call, a second after the
    fork; this is for those that come before.

    Returns: why no agent can run in this process; empty if one can
    """
    if _forked_untold() and _take_over():
        _go_on_untold()
    end = time.monotonic() + LIFE_SECONDS
    while _adopter not in (0, threading.get_ident()) and time.monotonic() < end:
        pause(WAY_SECONDS)  # another thread is about to make the locks anew
    return _problem


def _forked_untold() -> bool:
    # Not by the process id where it can be helped: two processes may both be number 1.
    return os.getpid() != _process if extension_unusable() else core.fork_untold()


def _take_over() -> bool:
    """Whether this process is a child in which no agent goes on yet. True for one caller only."""
    global _process
    other = os.getpid() != _process
    _process = os.getpid()
    return other if extension_unusable() else core.fork_told()


def _go_on_untold() -> None:
    global _problem
    # Up to 3.12 sys._current_frames() crashes on threads of the parent, which are still listed. The
    # Python engines need it. An agent that has just started has a thread that is in no list yet.
    others = HIDDEN or _followed or len(threading._active) > 1  # type: ignore[attr-defined]
    if extension_unusable() and others:
        _problem = (
            "this process was forked by C code that did not call PyOS_AfterFork_Child(): there "
            "the agent needs its extension, or to be started in the child alone"
        )
        _followed.clear()
    # As threading does where it is told of a fork: a thread that is not there may have held it.
    threading._active_limbo_lock = threading.RLock()  # type: ignore[attr-defined]
    _go_on_in_child(())


def follow(agent: Agent) -> None:
    """Tell an agent of forks, and stop it at the end of the process."""
    _followed.add(agent)


def forget(agent: Agent) -> None:
    """The opposite of `follow`. Does nothing for an agent that is not followed."""
    _followed.discard(agent)


def _before_fork() -> None:
    notice()
    fork = _Fork(time.monotonic())
    _forking.setdefault(threading.get_ident(), []).append(fork)
    # Nothing is held until the fork is over: hooks of the program's that run after this one may
    # wait for a thread that starts or stops an agent. With a time limit: a fork that waits for
    # ever is worse than one that meets a start.
    lock = _life
    if lock.acquire(timeout=LIFE_SECONDS):
        lock.release()
    # The very same agents go on afterwards, whoever starts or stops one meanwhile.
    fork.agents = tuple(_followed)
    for agent in fork.agents:
        with _unharmed():
            agent.before_fork()
    with _unharmed():
        fork_warning.keep_away(bool(fork.agents))


def _after_fork_in_parent() -> None:
    thread = threading.get_ident()
    forks = _forking.pop(thread, [])
    agents = forks.pop().agents if forks else ()
    if forks:
        _forking[thread] = forks
    try:
        with _unharmed():
            fork_warning.keep_away(bool(agents))
    finally:
        _tell(agents, child=False)


def _after_fork_in_child() -> None:
    global _problem
    forks = _forking.pop(threading.get_ident(), [])
    other = os.getpid() != _process  # also where C code has used clone(), of which nobody is told
    if _take_over() or other:  # else a hook of the program's has asked for a profile already
        _problem = ""
        _go_on_in_child(forks.pop().agents if forks else ())


def _go_on_in_child(agents: tuple[Agent, ...]) -> None:
    """agents: those that were there before the fork, also if somebody stopped them meanwhile"""
    global _life, _adopter
    _adopter = threading.get_ident()
    # Other threads that held it, or were about to fork, are not in this process. Nor do forks
    # around this one, which a signal handler has made, go on here: their agents do now.
    _life = threading.RLock()
    _forking.clear()
    survivor = 0 if extension_unusable() else core.fork_survivor()
    try:
        for owner in list(_lock_owners):
            owner._lock = threading.RLock()
        forget_in_child(survivor or threading.get_ident())
        for renew in _in_child:
            with _unharmed():
                renew()
    finally:
        _adopter = 0
        _tell((*agents, *_followed), child=True)


def _tell(agents: tuple[Agent, ...], *, child: bool) -> None:
    interrupted: BaseException | None = None
    for agent in dict.fromkeys(agents):
        with _unharmed():
            try:
                agent.after_fork(child=child)
            except BaseException as error:
                if isinstance(error, Exception):
                    raise
                # Such as KeyboardInterrupt, raised by a signal handler. The agents have to go on
                # all the same.
                interrupted = error
                agent.after_fork(child=child)
    if interrupted is not None:
        raise interrupted


@contextlib.contextmanager
def _unharmed() -> Iterator[None]:
    try:
        yield
    except Exception:
        _LOG.exception("the profiler could not follow a fork; the program goes on without")


def _stop_all() -> None:
    if _forked_untold():
        if not extension_unusable():
            core.follow_forks(int)  # nothing runs here, and nothing is to be started now
        return
    for agent in tuple(_followed):
        agent.stop()


# At the import and not at the first start: a fork then never meets a process half hooked. As
# hooks before a fork run last first, those of the program run while nothing of ours is held.
atexit.register(_stop_all)
if not extension_unusable():
    core.follow_forks(notice)
if hasattr(os, "register_at_fork"):
    if not extension_unusable():  # without a bytecode, at which a signal handler could raise
        os.register_at_fork(
            before=partial(core.announce_fork, True),
            after_in_parent=partial(core.announce_fork, False),
        )
    os.register_at_fork(
        before=_before_fork,
        after_in_parent=_after_fork_in_parent,
        after_in_child=_after_fork_in_child,
    )
