"""Which threads have labels of their own, where not all can have them."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from operator import itemgetter

from pyprof_agent.own_process import SAMPLER_THREAD
from pyprof_agent.profile import Label
from pyprof_agent.sources.stack_counters import NATIVE_THREADS
from pyprof_agent.sources.stack_rows import Row

MAX_LABELLED_THREADS = 256

OTHER_LABELS: tuple[Label, ...] = (Label("thread", "<other threads>"),)
"""Labels of all threads that have none of their own."""

NATIVE_LABELS: tuple[Label, ...] = (Label("thread", NATIVE_THREADS.function),)

SAMPLER_LABELS: tuple[Label, ...] = (Label("thread", SAMPLER_THREAD),)

CLAIM_NS = 50_000_000
"""Recent CPU time from which on a thread without labels may take those of an idle one."""

COOLING_NS = 10 * 10**9
"""The recent CPU time of each thread is halved this often."""

FAR_LESS = 8
"""A live thread loses its labels only to one that has burned more than so many times as much:
two busy ones do not take them from each other in turns."""

_Labels = tuple[Label, ...]


@dataclass(slots=True)
class SampledThread:
    """What is known of a thread from one tick to the next; clocks are in nanoseconds of CPU."""

    native_id: int | None
    name: str
    labels: _Labels = OTHER_LABELS
    clock: int = 0
    recent: float = 0.0  # CPU time in ns; halved every COOLING_NS
    asked: int = -CLAIM_NS  # what the clock was when it asked for labels; a new one asks at once
    walked_at: int | None = None
    row: Row = field(default_factory=Row)

    @property
    def own_labels(self) -> _Labels:
        """Those that it has if it may have some."""
        ids = () if self.native_id is None else (Label("thread_id", self.native_id),)
        return (Label("thread", self.name), *ids)


class ThreadLabels:
    """Labels of threads, bounded. Not thread-safe; a signal handler may come in between."""

    def __init__(self, now: int) -> None:
        # By labels, in the order in which they were given: the recent CPU time of their thread,
        # and when they were given (monotonic ns).
        self._recent: dict[_Labels, float] = {}
        self._given: dict[_Labels, int] = {}
        self._ended: list[_Labels] = []  # those of threads that were not there at the survey
        self._cooled_at = now

    def given_between(self, begin: int, end: int) -> set[_Labels]:
        """Labels that were given after one moment, and not after another (monotonic ns)."""
        return {labels for labels, given in list(self._given.items()) if begin < given <= end}

    def survey(self, threads: Iterable[SampledThread]) -> None:
        """Note whose threads have ended: all that there are, before some of them claim labels."""
        alive = {each.labels for each in threads if each.labels is not OTHER_LABELS}
        self._ended = [labels for labels in list(self._recent) if labels not in alive]

    def burned(self, thread: SampledThread, nanoseconds: int) -> None:
        """A thread has burned so much more."""
        thread.recent += nanoseconds
        so_far = self._recent.get(thread.labels)
        if so_far is not None:
            self._recent[thread.labels] = so_far + nanoseconds

    def cool(self, threads: Iterable[SampledThread], now: int) -> None:
        """Halve the recent CPU time of all threads, every ten seconds."""
        if now - self._cooled_at >= COOLING_NS:
            self._cooled_at = now
            self._recent = {labels: ns / 2 for labels, ns in list(self._recent.items())}
            for thread in threads:
                thread.recent /= 2

    def claim(self, thread: SampledThread, now: int) -> Sequence[_Labels]:
        """Give a thread labels if there are some for it.

        Returns the labels that were taken away from other threads for it.
        """
        if thread.name == SAMPLER_THREAD:  # ours takes no place of the program's
            thread.labels = SAMPLER_LABELS
            return ()
        labels, lost = thread.own_labels, []
        if labels not in self._recent and len(self._recent) >= MAX_LABELLED_THREADS:
            lost = self._free(thread.recent)
            if not lost:
                return ()
        for each in lost:
            self._recent.pop(each, None)
            self._given.pop(each, None)
        self._ended = [each for each in self._ended if each not in lost]
        if labels not in self._recent:
            self._recent[labels], self._given[labels] = thread.recent, now
        thread.labels, thread.walked_at = labels, None
        return lost

    def _free(self, burned: float) -> list[_Labels]:
        """Those of half of the threads that have ended and had burned little.

        Where there are none, a thread that has burned little itself gets none. Else it is one that
        has ended, or lives and has burned far less: the one that has burned least.
        """
        recent = self._recent
        ended = sorted(self._ended, key=lambda labels: recent.get(labels, 0))
        little = [labels for labels in ended if recent.get(labels, 0) < CLAIM_NS]
        if little or burned < CLAIM_NS:
            return little[: (len(little) + 1) // 2]
        labels, least = min(list(recent.items()), key=itemgetter(1))
        if labels in ended or least < burned / FAR_LESS:
            return [labels]
        return ended[:1]
