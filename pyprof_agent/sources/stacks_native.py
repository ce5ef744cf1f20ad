"""The native stack engine: a thread in C that reads the others' frames without the GIL.

There is one in the process. Agents that want the same of it share it.
"""

from __future__ import annotations

import time
from collections.abc import Collection, Mapping
from dataclasses import replace
from typing import TYPE_CHECKING, NamedTuple

from pyprof_agent._native import reads_stacks_right
from pyprof_agent._native import unusable as extension_unusable
from pyprof_agent.errors import CaptureError, NotRunningError
from pyprof_agent.hidden_thread import wait_for_the_kernel
from pyprof_agent.pauses import green_threads
from pyprof_agent.profile import Label, Profile, ValueType, merge, of_rows, subtract, unmade
from pyprof_agent.sources.naming import FrameNames
from pyprof_agent.sources.native_rows import (
    NOW,
    NativeNames,
    NativeRows,
    comparable,
    moment_ago,
)
from pyprof_agent.sources.native_sampler import SharedSampler, SharingEngine
from pyprof_agent.sources.stack_counters import COUNTERS, folded_window, full_table_comments
from pyprof_agent.sources.thread_clock import NO_FACTS, ThreadFacts, thread_facts
from pyprof_agent.sources.thread_labels import NATIVE_LABELS, OTHER_LABELS

if not extension_unusable():
    from pyprof_agent._native import core
if TYPE_CHECKING:
    from pyprof_agent._native._core import Snapshot

DEFAULT_HZ = 100.0

USUAL_READER = "process_vm_readv"

SEVERAL_CHUNKS = 300
"""Nested calls whose frames are in more than one chunk of CPython's data stack, of 16 KiB each."""

_Labels = tuple[Label, ...]

_SAMPLER_LABELS = (Label("thread", "pyprof-stacks"),)
_YOUNG_LABELS = (Label("thread", "<new threads>"),)
_ENDED = "<ended threads>"


class _Thread(NamedTuple):
    """A thread of a snapshot: the number of its labels, and CPU time in nanoseconds."""

    number: int
    ident: int
    native_id: int
    alive: bool
    cpu: int


class _Taken(NamedTuple):
    """A snapshot of the sampler; times are those of CLOCK_MONOTONIC."""

    snapshot: Snapshot
    functions: int
    nodes: int
    threads: list[_Thread]
    started_ns: int
    taken_ns: int
    process_cpu: int
    sampler_cpu: int


_sampler = SharedSampler("stack")
# Of threads, by the sampler's numbers for these; with the sampler's lock held.
_labels: dict[int, _Labels] = {}


def unusable() -> str:
    """Why this engine cannot be used here; empty if it can."""
    reason = extension_unusable()
    if reason:
        return reason
    module = green_threads()
    if module:
        return f"the threads of this program are those of {module}"
    problem = core.stack_problem()
    if problem:
        return problem
    try:
        right = reads_stacks_right(core.own_stack_walked, SEVERAL_CHUNKS)
    except RecursionError:
        return "it cannot be tried in so deep a recursion; start the agent before that"
    return "" if right else "it does not read other threads' stacks right on this build of CPython"


class NativeStacks(SharingEngine):
    """Cumulative counters of every thread's stacks; see `stack_counters` for their meaning.

    Whoever starts, stops and forks does so one after the other; snapshots may come at any time.

    names: where frames come from
    hz: looks per second, 0.1 to 1000; fewer if they would cost more than `max_cpu`
    max_cpu: of one core, as a share
    max_frames: depth of the stacks, 1 to 1024
    look_back: seconds that `past` can go back
    """

    exact_hits = True

    def __init__(
        self, names: FrameNames, *, hz: float, max_cpu: float, max_frames: int, look_back: int
    ) -> None:
        self._names = NativeNames(names)
        settings = {
            "stack_hz": hz,
            "stack_max_cpu": max_cpu,
            "max_frames": max_frames,
            "look_back": look_back,
        }
        super().__init__(_sampler, settings)

    @property
    def generation(self) -> int:
        """Another number once the counters have begun anew."""
        return self._begun + _sampler.epoch

    def snapshot(self) -> Profile:
        """All that was counted since the sampler's start.

        Raises NotRunningError before `start()` and after `stop()`.
        """
        return self._profile(NOW)

    def past(self, seconds: float) -> Profile:
        """What `snapshot()` would have given so many seconds ago, or up to ten seconds before that.

        If the sampler does not run for as long, its beginning.

        Raises NotRunningError as `snapshot()`, and CaptureError where nothing is kept.
        """
        return self._profile(moment_ago(seconds))

    def stats(self) -> dict[str, float]:
        """Looks so far, what they cost, stacks known, and what was lost.

        `hz`: looks a second of late
        `ticks`: looks
        `cpu_seconds`: CPU time of the sampling thread
        `unreadable`: counted as `<unreadable stack>`: they changed at each attempt to read them
        `retried`: attempts that failed
        `overflowed`: counted, but on `<too many stacks>`, as a table was full
        `folded`: rows of stacks not seen for long that went there, to make room for others
        `stacks`, `frames`: what its tables have
        `own_bytes`: their memory, and that of the names of functions
        """
        stats = core.stack_stats()
        return {
            "hz": 1e9 / stats["period"] if stats["period"] else 0.0,
            "ticks": stats["ticks"],
            "cpu_seconds": stats["cpu"] / 1e9,
            "stacks": stats["stacks"],
            "frames": stats["frames"],
            "unreadable": stats["unreadable"],
            "retried": stats["retried"],
            "overflowed": stats["overflowed"],
            "folded": stats["folded"],
            "own_bytes": stats["own_bytes"] + self._names.own_bytes,
        }

    def newcomers(self) -> bool:
        """Whether there are threads whose names were not looked up."""
        return core.stack_newcomers()

    def look_up_names(self) -> None:
        """Look up the names of threads that came since the last time: soon they may have ended."""
        with _sampler.lock:
            known, threads = _labels, [_Thread(*each) for each in core.stack_threads()]
            facts = thread_facts()
            for each in threads:
                _labels_of(each, facts, known)
            _forget_ended(known, {each.number for each in threads})

    def before_fork(self) -> None:
        """Take the sampling thread away: from 3.12 on, fork warns of any other thread."""
        wait_for_the_kernel(core.stack_pause())

    def after_fork(self, *, child: bool) -> None:
        """Go on where it was; the child starts from zero, with its own clocks.

        Raises RuntimeError if no thread can be started.
        """
        if not child:
            core.stack_resume()
        elif _sampler.inherited and _sampler.users:
            with _sampler.lock:
                _sampler.epoch += 1
                self._launch()

    def _launch(self) -> None:
        settings = _sampler.settings
        core.stack_stop()  # one that a signal handler in the middle of a start has left
        global _labels
        _labels = {core.THREAD_YOUNG: _YOUNG_LABELS, core.THREAD_OTHERS: OTHER_LABELS}
        core.stack_start(
            settings["stack_hz"],
            settings["stack_max_cpu"],
            int(settings["max_frames"]),
            int(settings["look_back"]),
        )
        _sampler.inherited = False

    def _halt(self) -> None:
        wait_for_the_kernel(core.stack_pause())
        core.stack_stop()

    def _profile(self, moment: int) -> Profile:
        with _sampler.lock:
            if not self._running:
                raise NotRunningError("the native stack engine is not running")
            epoch, known = -1, _labels
            while epoch != _epoch():  # a signal handler may start the engine anew
                epoch, known = _epoch(), _labels
                try:
                    snapshot, functions, nodes, threads, *times = core.stack_snapshot(moment)
                except LookupError as error:
                    raise CaptureError(f"{error}: look_back is 0") from None
            all_threads = [_Thread(*each) for each in threads]
            taken = _Taken(snapshot, functions, nodes, all_threads, *times)
            facts = thread_facts()
            labels = {each.number: _labels_of(each, facts, known) for each in taken.threads}
            _forget_ended(known, labels)
            labels[core.LABEL_SAMPLER], labels[core.LABEL_NATIVE] = _SAMPLER_LABELS, NATIVE_LABELS
            table = self._names.table(epoch, snapshot, functions)
            comments = self._comments()
        clocks = [(core.MARKER_UNSAMPLED, each.number, each.cpu) for each in taken.threads]
        native = taken.process_cpu - taken.sampler_cpu - sum(cpu for _, _, cpu in clocks)
        clocks += [
            (core.MARKER_SAMPLER, core.LABEL_SAMPLER, taken.sampler_cpu),
            (core.MARKER_NATIVE, core.LABEL_NATIVE, max(native, 0)),
        ]
        rows = NativeRows(
            core.rows_with(core.rows_of(snapshot), clocks),
            nodes,
            table,
            (_sampler, epoch),
            labels,
            core.THREAD_OTHERS,
            _counters,
        )
        like = Profile(
            sample_types=COUNTERS,
            samples=(),
            period_type=ValueType("wall", "nanoseconds"),
            period=round(1e9 / _sampler.settings["stack_hz"]),
            time_nanos=time.time_ns() - time.monotonic_ns() + taken.taken_ns,
            duration_nanos=taken.taken_ns - taken.started_ns,
            comments=comments,
        )
        return of_rows(rows, like)

    def window(self, later: Profile, earlier: Profile) -> Profile:
        """The difference between two snapshots."""
        if comparable(later, earlier):
            return subtract(later, earlier)
        rows, earlier_rows = unmade(later), unmade(earlier)
        if not isinstance(rows, NativeRows) or not isinstance(earlier_rows, NativeRows):
            return folded_window(later, earlier, OTHER_LABELS)
        difference = folded_window(
            of_rows(rows.numbered(), later),
            of_rows(earlier_rows.numbered(), earlier),
            (Label("", core.THREAD_OTHERS),),
        )
        names = {**earlier_rows.labels, **rows.labels}
        samples = [
            each._replace(labels=names[int(each.labels[0].value)]) for each in difference.samples
        ]
        return merge([replace(difference, samples=tuple(samples))])

    def _comments(self) -> tuple[str, ...]:
        stats = core.stack_stats()
        hz, budget = _sampler.settings["stack_hz"], _sampler.settings["stack_max_cpu"]
        comments = [
            f"stack engine: native, {hz:g} looks a second, {stats['ticks']} so far, "
            f"{stats['cpu'] / 1e9:.3g} s of CPU"
        ]
        if stats["slowed"]:
            comments.append(
                f"of late {1e9 / stats['period']:.3g} looks a second, as more would cost more than "
                f"stack_max_cpu={budget:g} of a core"
            )
        reader = core.stack_reader()
        if reader != USUAL_READER:
            comments.append(f"{USUAL_READER} is refused here: stacks are read by {reader}")
        if stats["unreadable"]:
            comments.append(f"{stats['unreadable']} stacks changed at each attempt to read them")
        comments += full_table_comments(stats["overflowed"], stats["folded"])
        return tuple(comments)


def _epoch() -> int:
    """Another number once stacks and functions have others."""
    return _sampler.epoch << 32 | core.stack_stats()["run"]


def _counters(values: tuple[int, ...]) -> tuple[int, ...]:
    ticks, wall, hits, cpu = values
    return (ticks, wall, hits, ticks - hits, cpu)


def _forget_ended(known: dict[int, _Labels], numbers: Collection[int]) -> None:
    """Keep the labels with these numbers, and with larger ones: their threads have come since.

    A signal handler in the middle of this may have taken some away.
    """
    newest = max(numbers, default=0)
    for number in list(known):
        if core.THREAD_OTHERS < number < newest and number not in numbers:
            known.pop(number, None)


def _labels_of(
    each: _Thread, facts: Mapping[int, ThreadFacts], known: dict[int, _Labels]
) -> _Labels:
    """The labels of a thread, with its name as it was last looked up; with the lock held."""
    labels = known.get(each.number)
    thread = facts.get(each.ident)
    if thread is not None and each.alive and thread.native_id == each.native_id:
        if labels is None or labels[0].value != thread.name:
            labels = (Label("thread", thread.name), Label("thread_id", each.native_id))
            known[each.number] = labels
        return labels
    if labels is not None:
        return labels
    # With its number: its CPU time is known, and divided among its own stacks only.
    is_known = not each.alive or thread is not None
    name = _ENDED if is_known else NO_FACTS.name
    return (Label("thread", name), Label("thread_id", each.native_id))
