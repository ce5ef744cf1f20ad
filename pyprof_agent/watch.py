"""The watch: looks at the heap now and then, keeps a history, and warns of what grows."""

from __future__ import annotations

import contextlib
import logging
import threading
import time
from collections.abc import Callable, Mapping
from dataclasses import replace
from functools import partial

from pyprof_agent.batches import gently
from pyprof_agent.config import Config
from pyprof_agent.engines import HeapSource
from pyprof_agent.errors import NotRunningError
from pyprof_agent.hidden_thread import apart
from pyprof_agent.leaks.history import RECENT_LOOKS, History
from pyprof_agent.leaks.looks import look
from pyprof_agent.leaks.report import LeakReport, report
from pyprof_agent.leaks.words import suspect_text
from pyprof_agent.own_process import resident_bytes
from pyprof_agent.profile import Frame, Profile

DEFAULT_SECONDS = 3600
"""The span over which growth is judged, with the native heap engine."""

MAX_CPU_SHARE = 0.001
"""The watch waits longer between looks rather than use more than this of one core, where the span
is an hour. Who asks for a shorter one asks for more looks, and gives as much more."""

MOST_CPU_SHARE = 0.05
"""However short the span is."""

JUDGED_EVERY = 5
"""Looks from one judgement to the next: one takes as long as some looks."""

QUIET = RECENT_LOOKS // JUDGED_EVERY
"""Judgements after which all is well again: those of a whole span."""

MOST_SUSPECTS = 5
"""Suspects in a line of the log."""

TELLING_THREAD = "pyprof-agent-watch"
"""In which `on_leak` is called, for as long as that takes."""

_FAILED = "the leak watch failed; further failures are only counted"

_LOG = logging.getLogger("pyprof_agent")


class LeakWatch:
    """A chore of the worker.

    heap: what is looked at
    finish: adds to a heap profile what is known of the process and its work
    seconds: the span over which growth is judged; there are 60 looks in it
    limit: growth, in per cent of the process's memory an hour, from which on it warns
    on_leak: is given the report when something begins to be beyond the limit, or something else
        does; called in a thread of its own, which the next look waits for
    """

    def __init__(
        self,
        heap: HeapSource,
        finish: Callable[[Profile], Profile],
        *,
        seconds: float,
        limit: float,
        on_leak: Callable[[LeakReport], object] | None = None,
    ) -> None:
        self._heap = heap
        self._finish = finish
        self._seconds = seconds
        self._limit = limit
        self._on_leak = on_leak
        self.begin()

    def begin(self) -> None:
        """Begin anew, with no history: the counters of the heap do, or the process is another."""
        # Guards the history. Re-entrant, as a signal handler may ask in the middle of a look.
        self._lock = threading.RLock()
        self._history: History | None = None
        self._warned: set[Frame] | None = None  # whom it has warned of; None: of nothing
        self._quiet = 0  # judgements since something was beyond the limit
        self._looks = self._failures = 0
        self._cpu = 0.0
        self._last: LeakReport | None = None
        self._in_use: float | None = None
        self._due = time.monotonic() + self._seconds / RECENT_LOOKS

    @property
    def due(self) -> float:
        """When it looks next, by the monotonic clock."""
        return self._due

    @property
    def last(self) -> LeakReport | None:
        """The report of its last judgement, made anew every five looks; None before the first."""
        return self._last

    @property
    def in_use(self) -> float | None:
        """Bytes in use at its last look, less the agent's own; None before the first."""
        return self._in_use

    def run(self) -> None:
        """Look, judge every now and then, and warn."""
        began, before = time.monotonic(), time.thread_time()
        try:
            self._look()
            if self._looks % JUDGED_EVERY == 0:
                self._last = self.report()
                self._warn(self._last)
        except NotRunningError:
            pass  # the agent was stopped in the middle
        except Exception as error:
            self._failures += 1
            if self._failures == 1:
                apart(partial(_LOG.error, _FAILED, exc_info=error), TELLING_THREAD)
        cost = time.thread_time() - before
        self._cpu += cost
        share = min(MAX_CPU_SHARE * max(DEFAULT_SECONDS / self._seconds, 1), MOST_CPU_SHARE)
        self._due = began + max(self._seconds / RECENT_LOOKS, cost / share)

    def _look(self) -> None:
        self._looks += 1
        found = look(self._finish(self._heap.snapshot()))
        resident = None
        with contextlib.suppress(OSError):
            resident = float(resident_bytes())
        with self._lock:
            if self._history is None:
                self._history = History(found.sample_bytes)
            self._history.add(found, resident)
        self._in_use = found.in_use

    def report(self) -> LeakReport:
        """What is known so far. Takes some ten milliseconds."""
        with self._lock:
            history = self._history if self._history is not None else History(1)
            found = report(history, self._seconds, self._limit)
        wanted = {suspect.line for suspect in found.suspects}
        return replace(found, stacks=self._largest_stacks(wanted)) if wanted else found

    def _largest_stacks(self, lines: set[Frame]) -> dict[Frame, tuple[Frame, ...]]:
        profile = self._heap.snapshot()
        in_use = profile.column("inuse_space")
        largest: dict[Frame, tuple[float, tuple[Frame, ...]]] = {}
        for stack, values, _ in gently(profile.samples):
            if stack and stack[0] in lines:
                before = largest.get(stack[0], (0.0, ()))
                largest[stack[0]] = max(before, (values[in_use], stack), key=lambda one: one[0])
        return {line: stack for line, (_, stack) in largest.items()}

    def _warn(self, found: LeakReport) -> None:
        if not found.alarms:
            self._quiet += 1
            # Not at once: where growth has just begun the bounds come and go.
            if self._quiet == QUIET and self._warned is not None:
                self._warned = None
                text = "memory does not grow beyond %g %% an hour any more"
                apart(partial(_LOG.info, text, self._limit), TELLING_THREAD)
            return
        self._quiet = 0
        before, lines = self._warned, {suspect.line for suspect in found.suspects}
        if before is not None and lines <= before:
            return
        self._warned = lines | (before or set())
        apart(partial(self._tell, found), TELLING_THREAD)

    def _tell(self, found: LeakReport) -> None:
        suspects = [suspect_text(suspect) for suspect in found.suspects[:MOST_SUSPECTS]]
        _LOG.warning(
            "memory leak: %s; %s",
            "; ".join(found.alarms),
            "lines that grow all the time: " + "; ".join(suspects)
            if suspects
            else "no line of Python is known to do it",
        )
        if self._on_leak is not None:
            try:
                self._on_leak(found)
            except Exception:
                self._failures += 1
                _LOG.exception("on_leak failed")

    def stats(self) -> Mapping[str, float]:
        """Looks so far, CPU seconds they cost, and how many failed."""
        return {"looks": self._looks, "cpu_seconds": self._cpu, "failures": self._failures}


def watch_of(
    config: Config, heap: HeapSource, finish: Callable[[Profile], Profile]
) -> LeakWatch | None:
    """The watch that the options ask for; None if they ask for none."""
    seconds = config.leak_window
    if seconds is None:  # with the other engine a look takes up to a second
        seconds = DEFAULT_SECONDS if heap.name == "native" else 0
    if seconds == 0:
        return None
    return LeakWatch(heap, finish, seconds=seconds, limit=config.leak_limit, on_leak=config.on_leak)
