"""A thread that the program does not come across, as it is always there and none of its business.

A `threading.Thread` is in `threading.enumerate()`, and programs wait for all that they find there.
"""

from __future__ import annotations

import _signal  # type: ignore[import-not-found]
import _thread
import contextlib
import os
import signal
import threading
from collections.abc import Callable, Iterator

from pyprof_agent.collector import kept_off
from pyprof_agent.pauses import Waker, green_threads, pause

MOMENTS, MOMENT_SECONDS = 50, 0.0001


class HiddenThread:
    """A thread of the name and with the ids that one has, which ends with the process.

    What runs in it must not ask for `threading.current_thread()`, as `logging` does: that makes
    one to be found. See `apart`.
    """

    def __init__(self, target: Callable[[], None], name: str) -> None:
        self._target = target
        self._over = _thread.allocate_lock()
        self.name = name
        self.native_id: int | None = None  # until it runs

    def start(self) -> None:
        """Start it, once. Raises RuntimeError if no thread can be started."""
        self._over.acquire()
        try:
            with _signals_elsewhere():
                # By its full name: gevent replaces it.
                _thread.start_new_thread(*kept_off(self._run))
        except BaseException:
            self._end()
            raise

    def join(self, timeout: float) -> None:
        """Wait for its end, up to so many seconds, and until the kernel knows of it."""
        if self._over.acquire(timeout=timeout):
            self._over.release()
            wait_for_the_kernel(self.native_id)

    def _run(self) -> None:
        ident = threading.get_ident()
        self.native_id = threading.get_native_id()
        HIDDEN[ident] = self
        try:
            self._target()
        finally:
            HIDDEN.pop(ident, None)
            self._end()

    def _end(self) -> None:
        # Where a signal handler raises at the end of start() both sides come here.
        with contextlib.suppress(RuntimeError):
            self._over.release()


def wait_for_the_kernel(native_id: int | None) -> None:
    """Wait for a moment until a thread that is at its end is gone: CPython asks the kernel whether
    a process that forks has others. On a busy machine it may take longer; see `ending`."""
    if green_threads():
        return  # it was none; and between a fork and its end gevent's event loop must not run
    for _ in range(MOMENTS):
        if not native_id or not _is_there(native_id):
            return
        pause(MOMENT_SECONDS)
    if native_id:
        _ENDING.add(native_id)


def ending() -> int:
    """How many threads the kernel still lists of those that it was waited for in vain."""
    _ENDING.intersection_update({each for each in tuple(_ENDING) if _is_there(each)})
    return len(_ENDING)


def _is_there(native_id: int) -> bool:
    return os.path.exists(f"/proc/self/task/{native_id}")  # raises no audit event


@contextlib.contextmanager
def _signals_elsewhere() -> Iterator[None]:
    """A thread that is started meanwhile gets no signals: they are the program's, which may keep
    them waiting, or wait for them. Those that a fault raises come to it all the same.
    """
    if not hasattr(_signal, "pthread_sigmask"):
        yield
        return
    faults = {signal.SIGSEGV, signal.SIGBUS, signal.SIGFPE, signal.SIGILL}
    # By the functions in C: signals that have come are handled at their end, after the mask is set,
    # where those of `signal` could raise before. What is changed is known first.
    before = _signal.pthread_sigmask(signal.SIG_BLOCK, ())
    try:
        _signal.pthread_sigmask(signal.SIG_BLOCK, signal.valid_signals() - faults)
        yield
    finally:
        _signal.pthread_sigmask(signal.SIG_SETMASK, before)


_ENDING: set[int] = set()  # native ids

HIDDEN: dict[int, HiddenThread] = {}
"""Those that run in this process, by `threading.get_ident()`."""


def apart(function: Callable[[], None], name: str) -> None:
    """Call a function in an ordinary thread, and wait for it; right here if none can be started.

    It is to take care of its own failures.
    """
    over = Waker()  # Thread.join() asks for the thread that calls it

    def run() -> None:
        try:
            function()
        finally:
            over.wake()

    try:
        threading.Thread(target=run, name=name, daemon=True).start()
    except RuntimeError:  # else it would end the thread that calls, and all that waits for that
        function()
        return
    over.wait(None)


def forget_in_child(survivor: int) -> None:
    """In a forked child: only the thread that has forked is there. Others may have the ids of those
    that are not.

    survivor: its `threading.get_ident()`
    """
    _ENDING.clear()
    for ident in list(HIDDEN):
        if ident != survivor:
            del HIDDEN[ident]
