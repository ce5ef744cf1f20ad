"""A thread that the program does not come across, as it is always there and none of its business.

A `threading.Thread` is in `threading.enumerate()`, and programs wait for all that they find there.
"""

from __future__ import annotations

import _thread
import contextlib
import os
import signal
import threading
import time
from collections.abc import Callable, Iterator

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
                _thread.start_new_thread(self._run, ())
        except BaseException:
            self._over.release()
            raise

    def join(self, timeout: float) -> None:
        """Wait for its end, up to so many seconds, and for a moment until the kernel knows of it:
        CPython asks it whether a process that forks has other threads.
        """
        if self._over.acquire(timeout=timeout):
            self._over.release()
            for _ in range(MOMENTS):
                if not os.path.exists(f"/proc/self/task/{self.native_id}"):
                    return
                time.sleep(MOMENT_SECONDS)

    def _run(self) -> None:
        ident = threading.get_ident()
        self.native_id = threading.get_native_id()
        HIDDEN[ident] = self
        try:
            self._target()
        finally:
            del HIDDEN[ident]
            self._over.release()


@contextlib.contextmanager
def _signals_elsewhere() -> Iterator[None]:
    """A thread that is started meanwhile gets no signals: they are the program's, which may keep
    them waiting, or wait for them. Those that a fault raises come to it all the same.
    """
    if not hasattr(signal, "pthread_sigmask"):
        yield
        return
    faults = {signal.SIGSEGV, signal.SIGBUS, signal.SIGFPE, signal.SIGILL}
    before = signal.pthread_sigmask(signal.SIG_BLOCK, signal.valid_signals() - faults)
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)


HIDDEN: dict[int, HiddenThread] = {}
"""Those that run in this process, by `threading.get_ident()`."""


def apart(function: Callable[[], None], name: str) -> None:
    """Call a function in an ordinary thread, and wait for it; right here if none can be started.

    It is to take care of its own failures.
    """
    over = _thread.allocate_lock()  # Thread.join() asks for the thread that calls it
    over.acquire()

    def run() -> None:
        try:
            function()
        finally:
            over.release()

    try:
        threading.Thread(target=run, name=name, daemon=True).start()
    except RuntimeError:  # else it would end the thread that calls, and all that waits for that
        function()
        return
    over.acquire()


def forget_in_child() -> None:
    """In a forked child: only the thread that has forked is there."""
    mine = threading.get_ident()
    for ident in list(HIDDEN):
        if ident != mine:
            del HIDDEN[ident]
