"""The stack engine that works everywhere: a thread that looks at `sys._current_frames()`.

It needs the GIL to look, so it sees other threads where they give the GIL up: its
profiles are approximate, and say so.
"""

from __future__ import annotations

import logging
import random
import sys
import threading
import time
from collections.abc import Collection
from functools import cache, partial

from pyprof_agent import borrowed, forks
from pyprof_agent.errors import NotRunningError
from pyprof_agent.hidden_thread import HIDDEN, HiddenThread, apart
from pyprof_agent.own_process import SAMPLER_THREAD, has_ended_but_for_us
from pyprof_agent.pauses import Waker, green_threads, pause
from pyprof_agent.profile import Label, Profile, Sample, ValueType, subtract
from pyprof_agent.sources.naming import FrameNames
from pyprof_agent.sources.stack_counters import (
    COUNTERS,
    NATIVE_THREADS,
    SAMPLER,
    UNSAMPLED,
    folded_window,
    full_table_comments,
)
from pyprof_agent.sources.stack_rows import Row, StackRows
from pyprof_agent.sources.thread_clock import NO_FACTS, thread_cpu_ns, thread_facts
from pyprof_agent.sources.thread_labels import (
    CLAIM_NS,
    NATIVE_LABELS,
    OTHER_LABELS,
    SAMPLER_LABELS,
    SampledThread,
    ThreadLabels,
)

DEFAULT_HZ = 20.0

PROBE_SECONDS = 0.001
"""How long a thread is watched after its stack is taken. If it burns no CPU it was asleep
there. To charge what it burned since the last tick would bill an event loop to `select`."""

GOING_TO_SLEEP_NS = 20_000
"""CPU time within which a thread that has given up the GIL gets to sleep in a system call."""

MAX_CPU_SHARE = 0.01
"""The sampler waits longer between ticks rather than use more than this of one core."""

HALT_SECONDS = 1.0
"""How long a stop, and a fork, wait for the sampling thread to end."""

_CLOCK_FRAMES = {NATIVE_LABELS: NATIVE_THREADS, SAMPLER_LABELS: SAMPLER}

_FAILED = "stack sampling failed; further failures are only counted"

_LOG = logging.getLogger("pyprof_agent")

_Labels = tuple[Label, ...]


class PythonStacks:
    """Cumulative counters of every thread's stacks; see `stack_counters` for their meaning.

    Whoever starts, stops and forks does so one after the other; snapshots may come at any time.

    names: where frames come from
    max_frames: depth of the stacks, 1 to 1024
    hz: looks per second, 0.1 to 1000
    """

    name = "python"
    exact_hits = False
    past = newcomers = None

    def __init__(self, names: FrameNames, *, max_frames: int, hz: float = DEFAULT_HZ) -> None:
        self._names = names
        self._max_frames = max_frames
        self._hz = hz
        # Guards the counters, that is all that _reset sets. Re-entrant, as a signal handler or a
        # finalizer may ask for a profile in the middle of one.
        self._lock = forks.lock_of(self)
        self._running = False
        self._thread: HiddenThread | None = None
        self._wake = Waker()
        self.generation = 0
        self._green: str | None = None
        self._reset()

    def _reset(self) -> None:
        self.generation += 1
        self._rows = StackRows(self._names, self._max_frames)
        self._threads: dict[int, SampledThread] = {}
        self._labels = ThreadLabels(time.monotonic_ns())
        self._cpu: dict[_Labels, int] = {}
        self._ticks = self._failures = 0
        # When to look next, and what a look costs (seconds). They outlive the thread: a program
        # that forks more often than it is looked at would never be looked at.
        self._due = time.monotonic() + 1 / self._hz
        self._cost = 0.0
        self._started_at = self._ticked_at = time.monotonic_ns()
        self._process_cpu_at_start = time.process_time_ns()
        self._survey()
        self._cpu.clear()  # what was burned before the start

    def start(self) -> None:
        """Start the sampling thread, from zero. Does nothing if it runs."""
        if not self._running:
            with self._lock:
                self._reset()
                self._running = True
            self._green = green_threads()
            if self._green:
                _warn_of_green_threads(self._green)
            try:
                self._launch()
            except BaseException:
                self._running = False
                raise

    def stop(self) -> None:
        """Stop the sampling thread. Does nothing if it does not run."""
        with self._lock:
            self._running = False
        self._halt()

    def snapshot(self) -> Profile:
        """All that was counted since `start()`.

        Raises NotRunningError before `start()` and after `stop()`.
        """
        with self._lock:
            if not self._running:
                raise NotRunningError("the Python stack engine is not running")
            self._survey()
            duration = time.monotonic_ns() - self._started_at
            process_cpu = time.process_time_ns() - self._process_cpu_at_start
            samples = [
                Sample(stack, (row.ticks, row.wall, row.hits, row.asleep, 0), labels)
                for labels, stack, row in self._rows
            ]
            native_cpu = max(process_cpu - sum(self._cpu.values()), 0)
            clocks: dict[_Labels, int] = {**self._cpu, NATIVE_LABELS: native_cpu}
            for labels, cpu in clocks.items():
                frame = _CLOCK_FRAMES.get(labels, UNSAMPLED)
                samples.append(Sample((frame,), (0, 0, 0, 0, cpu), labels))
            comments = self._comments()
        return Profile(
            sample_types=COUNTERS,
            samples=tuple(samples),
            period_type=ValueType("wall", "nanoseconds"),
            period=round(1e9 / self._hz),
            time_nanos=time.time_ns(),
            duration_nanos=duration,
            comments=comments,
        )

    def look_up_names(self) -> None:
        """Nothing: each look does so."""

    def window(self, later: Profile, earlier: Profile) -> Profile:
        """The difference between two snapshots."""
        began = self._started_at + earlier.duration_nanos
        if self._rows.moved_at <= began:
            return subtract(later, earlier)
        given = self._labels.given_between(began, self._started_at + later.duration_nanos)
        return folded_window(later, earlier, OTHER_LABELS, given)

    def stats(self) -> dict[str, float]:
        """Ticks so far, CPU seconds they cost, stacks known, what was lost, and bytes of memory."""
        return {
            "hz": self._hz,
            "ticks": self._ticks,
            "cpu_seconds": self._cpu.get(SAMPLER_LABELS, 0) / 1e9,
            "stacks": len(self._rows),
            "overflowed": self._rows.overflows,
            "folded": self._rows.folded,
            "failures": self._failures,
            "own_bytes": self._rows.own_bytes,
        }

    def before_fork(self) -> None:
        """Take the sampling thread away: from 3.12 on, fork warns of any other thread."""
        self._halt()

    def after_fork(self, *, child: bool) -> None:
        """Go on where it was; the child starts from zero, with its own clocks."""
        if child:
            self._thread = None
            self._reset()
        if self._running:
            try:
                self._launch()
            except RuntimeError:  # no thread can be started; the profile says so
                self._failures += 1
                raise

    def _launch(self) -> None:
        if self._green:
            return
        self._halt()  # one that a start in a signal handler has launched meanwhile
        self._wake = Waker()
        thread = HiddenThread(partial(self._run, self._wake), SAMPLER_THREAD)
        thread.start()
        self._thread = thread

    def _halt(self) -> None:
        thread, self._thread = self._thread, None
        self._wake.wake()
        # With a time limit: the thread may wait for the very profile in whose middle a signal
        # handler stops the agent or forks. It ends when that is done.
        if thread is not None and HIDDEN.get(threading.get_ident()) is not thread:
            thread.join(HALT_SECONDS)

    def _run(self, wake: Waker) -> None:
        dice = random.Random()  # the program's own generator is not ours to advance
        while not wake.wait(self._due - time.monotonic()):
            before = time.thread_time()
            try:
                self._tick()
                if len(self._threads) == 1 and has_ended_but_for_us():
                    return
            except Exception as error:
                self._failures += 1
                if self._failures == 1:
                    apart(partial(_LOG.error, _FAILED, exc_info=error), SAMPLER_THREAD)
            # Smoothed: naming a stack that is new costs once a hundred times as much.
            self._cost += (time.thread_time() - before - self._cost) / 10
            # Jitter, so as not to march in step with the program.
            self._due += dice.uniform(0.5, 1.5) / self._hz
            self._due = max(self._due, time.monotonic() + self._cost / MAX_CPU_SHARE)

    def _tick(self) -> None:
        awake = self._look()
        if awake:
            pause(PROBE_SECONDS)
            with self._lock:
                clocks = self._survey()
                for ident, clock, row in awake:
                    if clocks.get(ident, 0) > clock + GOING_TO_SLEEP_NS:
                        row.hits += 1
                    else:
                        row.asleep += 1

    def _look(self) -> list[tuple[int, int, Row]]:
        """Take every thread's stack; those that have run since the last look, to be watched."""
        awake = []
        with self._lock:
            now = time.monotonic_ns()
            elapsed = now - self._ticked_at
            self._ticked_at = now
            self._ticks += 1
            self._labels.cool(list(self._threads.values()), now)
            # Stacks after the clocks: who goes on in between is looked at again the next time.
            clocks = self._survey()
            with borrowed.frames() as (frames, held):
                for ident in frames:
                    thread = self._threads.get(ident)
                    if thread is None or ident == threading.get_ident():
                        continue
                    clock = clocks.get(ident)
                    if clock is None or clock != thread.walked_at:
                        thread.row = self._rows.row(thread.labels, frames[ident], now, held)
                        thread.walked_at = clock
                        if clock is not None:
                            awake.append((ident, clock, thread.row))
                    else:  # the same stack still
                        thread.row.asleep += 1
                    thread.row.ticks += 1
                    thread.row.wall += elapsed
                    thread.row.changed_at = now
        return awake

    def _survey(self) -> dict[int, int]:
        """Note who is there and book their CPU time; the clocks by thread identifier."""
        clocks = {}
        facts = thread_facts()
        with borrowed.frames() as (frames, _):
            idents = set(frames)
        for ident in self._threads.keys() - idents:  # first: others may have their labels now
            self._threads.pop(ident, None)
        self._labels.survey(list(self._threads.values()))
        for ident in idents:
            name, native_id = facts.get(ident, NO_FACTS)
            thread = self._threads.get(ident)
            if thread is None or (thread.native_id, thread.name) != (native_id, name):
                renamed = thread is not None and thread.native_id == native_id
                clock_before = thread.clock if thread is not None and renamed else 0
                if thread is not None and thread.native_id is None and native_id is not None:
                    # It was there before its id was known: what it has burned so far is booked
                    # on the threads without Python already.
                    clock_before = thread_cpu_ns(native_id) or 0
                thread = SampledThread(native_id, name, clock=clock_before)
                self._threads[ident] = thread
            clock = None if native_id is None else thread_cpu_ns(native_id)
            if clock is not None and clock < thread.clock:
                thread.clock, thread.asked = 0, -CLAIM_NS  # a new thread with the ids of an old one
            if thread.labels is OTHER_LABELS and (clock or 0) - thread.asked >= CLAIM_NS:
                thread.asked = clock or 0
                if lost := self._labels.claim(thread, time.monotonic_ns()):
                    self._hand_over(lost)
            if clock is not None:
                burned = clock - thread.clock
                self._cpu[thread.labels] = self._cpu.get(thread.labels, 0) + burned
                self._labels.burned(thread, burned)
                thread.clock = clocks[ident] = clock
        return clocks

    def _hand_over(self, lost: Collection[_Labels]) -> None:
        """Let others have what threads without labels of their own any more had."""
        self._rows.hand_over(lost, OTHER_LABELS, time.monotonic_ns())
        for labels in lost:
            self._cpu[OTHER_LABELS] = self._cpu.get(OTHER_LABELS, 0) + self._cpu.pop(labels, 0)
        for each in list(self._threads.values()):
            if each.labels in lost:
                each.labels, each.asked, each.walked_at = OTHER_LABELS, each.clock, None

    def _comments(self) -> tuple[str, ...]:
        comments = [
            f"stack engine: python, up to {self._hz:g} looks a second, {self._ticks} so far; "
            "approximate: it sees threads where they give up the GIL"
        ]
        if sys.platform != "linux":
            comments.append(
                "this platform has no CPU clocks of single threads: all CPU time is <unsampled>"
            )
        if self._green:
            comments.append(f"the threads are those of {self._green}: no stacks are looked at")
        comments += full_table_comments(self._rows.overflows, self._rows.folded)
        if self._failures:
            comments.append(f"{self._failures} looks failed")
        return tuple(comments)


@cache
def _warn_of_green_threads(module: str) -> None:
    # No error: the heap is seen all the same, and a service should come up.
    _LOG.warning(
        "the threads of this program are those of %s, which the stack engine cannot look at: "
        "profile and wall will have no stacks (heap and allocs work); stacks=False switches "
        "the engine off",
        module,
    )
