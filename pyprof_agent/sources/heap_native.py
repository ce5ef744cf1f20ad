"""The native heap engine: one allocation in every `heap_sample_bytes` bytes is sampled, in C.

There is one sampler in the process. Agents that want the same of it share it.
"""

from __future__ import annotations

import time
from collections.abc import Callable

from pyprof_agent._native import unusable as extension_unusable
from pyprof_agent.errors import CaptureError, NotRunningError
from pyprof_agent.own_process import resident_bytes
from pyprof_agent.profile import Profile, ValueType, merge, of_rows, subtract
from pyprof_agent.sources import heap_rows
from pyprof_agent.sources.heap_tracemalloc import SAMPLE_TYPES
from pyprof_agent.sources.naming import FrameNames
from pyprof_agent.sources.native_rows import (
    NOW,
    NativeNames,
    NativeRows,
    comparable,
    moment_ago,
)
from pyprof_agent.sources.native_sampler import SharedSampler, SharingEngine
from pyprof_agent.sources.stack_counters import OVERFLOW

if not extension_unusable():
    from pyprof_agent._native import core


class _HeapSampler(SharedSampler):
    resets = 0  # times that other code had removed the hooks


_sampler = _HeapSampler("heap")


def unusable() -> str:
    """Why this engine cannot be used here; empty if it can."""
    reason = extension_unusable()
    if reason:
        return reason
    with _sampler.lock:
        if _sampler.users:
            return ""
        try:
            core.heap_start(2.0**40, 1, 0)
        except RuntimeError as error:
            return str(error)
        core.heap_stop()
    return ""


class NativeHeap(SharingEngine):
    """Live and allocated bytes and objects by stack, estimated from samples.

    Each allocation of S bytes is sampled with probability 1 - exp(-S / R), R being
    `sample_bytes`, and then stands for the inverse of that many: the estimate is unbiased,
    and its standard error for B bytes of small blocks is about sqrt(B R).

    names: where frames come from
    sample_bytes: R, mean number of bytes between two samples, 1 to 2**40
    max_frames: depth of the stacks, 1 to 1024
    look_back: seconds that `past` can go back
    now: the clock, Unix time in nanoseconds
    """

    def __init__(
        self,
        names: FrameNames,
        *,
        sample_bytes: int,
        max_frames: int,
        look_back: int,
        now: Callable[[], int] = time.time_ns,
    ) -> None:
        settings = {
            "heap_sample_bytes": sample_bytes,
            "max_frames": max_frames,
            "look_back": look_back,
        }
        super().__init__(_sampler, settings)
        self._now = now
        self._names = NativeNames(names)

    @property
    def generation(self) -> int:
        """Another number once the counters have begun anew."""
        return self._begun + core.heap_stats()["run"]

    def _launch(self) -> None:
        core.heap_stop()  # one that a signal handler in the middle of a start has left
        settings = self._settings
        core.heap_start(
            settings["heap_sample_bytes"], int(settings["max_frames"]), int(settings["look_back"])
        )
        _sampler.resets = 0

    def _halt(self) -> None:
        core.heap_stop()

    def snapshot(self) -> Profile:
        """What is in use now, and all that was allocated since the sampler's start.

        The GIL is held without a break for some milliseconds at most.

        Raises NotRunningError before `start()` and after `stop()`.
        """
        return self._profile(NOW)

    def past(self, seconds: float) -> Profile:
        """What `snapshot()` would have given so many seconds ago, or up to ten seconds before that.

        Where less is kept, as the sampler does not run for as long or has had to put its tables
        in order meanwhile, the oldest there is.

        Raises NotRunningError as `snapshot()`, and CaptureError where nothing is kept.
        """
        return self._profile(moment_ago(seconds))

    def _profile(self, moment: int) -> Profile:
        with _sampler.lock:
            if not self._running:
                raise NotRunningError("the native heap engine is not running")
            _sampler.resets += core.heap_repair()
            time_nanos = self._now()
            _sampler.epoch += core.heap_compact()
            epoch = -1
            while epoch != _epoch():  # a signal handler may start the engine anew
                epoch = _epoch()
                try:
                    snapshot, functions, nodes, taken = core.heap_snapshot(moment)
                except LookupError as error:
                    raise CaptureError(f"{error}: look_back is 0") from None
            if moment != NOW:
                time_nanos -= time.monotonic_ns() - taken
            table = self._names.table(epoch, snapshot, functions)
            comments = self._comments()
        rows = NativeRows(
            core.rows_of(snapshot),
            nodes,
            table,
            (_sampler, epoch),
            {0: ()},
            core.NO_LABELS,
            lambda values: values,
        )
        like = Profile(
            sample_types=SAMPLE_TYPES,
            samples=(),
            period_type=ValueType("space", "bytes"),
            period=int(_sampler.settings["heap_sample_bytes"]),
            time_nanos=time_nanos,
            default_sample_type="inuse_space",
            comments=comments,
        )
        return of_rows(rows, like)

    def window(self, later: Profile, earlier: Profile) -> Profile:
        """What changed between two snapshots; alloc_* are never negative."""
        if comparable(later, earlier):
            return subtract(later, earlier)
        if _overflow(later) == _overflow(earlier):
            return subtract(later, earlier)
        # Rows may have been folded between the two. Those of equal stacks, from places on one
        # line, are added up first.
        return heap_rows.window(merge([later]), merge([earlier]), in_parts=True)

    def in_use_bytes(self) -> int:
        """An estimate of the bytes in use, without the stacks: takes some milliseconds at most.

        0 if it does not run.
        """
        with _sampler.lock:
            if not self._running:
                return 0
            return core.snapshot_total(core.heap_snapshot(-1)[0], 3)

    def stats(self) -> dict[str, float]:
        """Samples so far, alive, and lost; stacks and frames known; its own memory in bytes.

        `dropped`: for want of memory, or as other code had removed the hooks
        `overflowed`: counted, but on `<too many stacks>`, as the table was full
        `folded`: stacks with nothing alive whose row went there, to make room for others
        `subinterpreter`: not sampled, as they were allocated in a subinterpreter
        `resets`: times that other code had removed the hooks
        `sample_bytes`: the mean number of bytes between two samples
        """
        stats = core.heap_stats()
        del stats["run"]
        return {
            **stats,
            "own_bytes": stats["own_bytes"] + self._names.own_bytes,
            "resets": _sampler.resets,
            "sample_bytes": _sampler.settings.get("heap_sample_bytes", 0),
        }

    def before_fork(self) -> None:
        """Nothing to do: the sampler looks after itself, here and in `after_fork`."""

    def after_fork(self, *, child: bool) -> None:
        """Nothing to do: the child keeps what was alive."""

    def _comments(self) -> tuple[str, ...]:
        stats = self.stats()
        mean = _sampler.settings["heap_sample_bytes"]
        comments = [
            f"heap engine: native, a sample every {mean} bytes on average, "
            f"{stats['samples']} so far, {stats['live']} of them in use",
            f"resident set size: {_resident_set_size()}; memory that C code does not get from "
            "Python's allocators is not seen",
        ]
        losses = {
            "dropped": "samples were lost: no memory, or other code had removed the hooks",
            "overflowed": "samples came after the table of stacks was full",
            "folded": f"stacks with nothing alive have lost their rows to {OVERFLOW.function}",
            "subinterpreter": "samples were not taken: they fell into a subinterpreter",
            "resets": "times other code removed the hooks (tracemalloc.stop()): what was alive "
            "then counts as freed",
        }
        comments += [f"{stats[key]} {text}" for key, text in losses.items() if stats[key]]
        return tuple(comments)


def _overflow(profile: Profile) -> list[tuple[float, ...]]:
    return [row.values for row in profile.samples if row.stack == (OVERFLOW,)]


def _resident_set_size() -> str:
    try:
        return f"{resident_bytes()} bytes"
    except OSError as error:  # no reason to fail
        return f"unknown ({error.strerror})"


def _epoch() -> int:
    """Another number once stacks and functions have others."""
    return _sampler.epoch + core.heap_stats()["run"]
