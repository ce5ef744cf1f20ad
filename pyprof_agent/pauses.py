"""Short waits that the program does not notice."""

from __future__ import annotations

import _thread

_never = _thread.allocate_lock()
_never.acquire()


def pause(seconds: float) -> None:
    """Wait as `time.sleep` does, without its audit event: the program's audit hooks are Python
    code, which would run here, and may forbid it."""
    _never.acquire(timeout=seconds)
