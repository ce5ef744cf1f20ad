"""What the native engines have in common: one sampler for all agents, and the names of stacks."""

from __future__ import annotations

import logging
import sys
import threading
from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING

from pyprof_agent import forks
from pyprof_agent._native import unusable as extension_unusable
from pyprof_agent.batches import batches
from pyprof_agent.errors import ConfigError
from pyprof_agent.profile import Frame
from pyprof_agent.sources.naming import TRUNCATED, FrameNames
from pyprof_agent.sources.stack_counters import OVERFLOW

if not extension_unusable():
    from pyprof_agent._native import core
if TYPE_CHECKING:
    from pyprof_agent._native._core import Snapshot

MAX_STACKS_KEPT = 20_000
"""Stacks kept from one snapshot to the next; to make them takes most of its time. At the
default depth of 128 frames they have 22 MB at most."""

NO_GIL = Frame("<allocated without the GIL>", "", 0, 0)
"""Stands for the stack of a block that C code allocated while it had released the GIL."""

NO_PYTHON = Frame("<outside of Python functions>", "", 0, 0)
"""Stands for the stack of a thread that runs no Python function."""

UNREADABLE = Frame("<unreadable stack>", "", 0, 0)
"""Stands for a stack that changed at each attempt to read it."""

_LOG = logging.getLogger("pyprof_agent")

_MARKERS: dict[int, Frame] = (
    {}
    if extension_unusable()
    else {
        core.MARKER_CUT: TRUNCATED,
        core.MARKER_NO_GIL: NO_GIL,
        core.MARKER_NO_FRAME: NO_PYTHON,
        core.MARKER_OVERFLOW: OVERFLOW,
        core.MARKER_UNREADABLE: UNREADABLE,
    }
)


class SharedSampler:
    """A sampler that the process has one of; agents that want the same of it share it.

    kind: `heap` or `stack`
    """

    def __init__(self, kind: str) -> None:
        self._kind = kind
        self.settings: Mapping[str, float] = {}
        """Those that it runs with, by their names in `Config`."""
        self.epoch = 0
        """Grows when stacks and frames get other numbers."""
        self.users = 0
        self.inherited = False
        """Whether this is a forked child that has not started it anew."""
        self._renew_lock()
        forks.in_child(self._inherit)

    def _inherit(self) -> None:
        self._renew_lock()  # who held it is not in this process
        self.inherited = True

    def _renew_lock(self) -> None:
        # Guards everything here, and every call into the sampler. Re-entrant: a signal handler or a
        # finalizer may ask for a profile in the middle of one.
        self.lock = threading.RLock()

    def join(self, settings: Mapping[str, float], start: Callable[[], None]) -> None:
        """Start it, or join in where it runs; its settings stay then, and a warning is logged.

        start: raises RuntimeError if it cannot

        Raises ConfigError if it cannot run.
        """
        # Counted first: a signal handler that starts an agent in the middle of this joins in.
        self.users += 1
        if self.users == 1:
            self.settings = settings
            try:
                start()
            except RuntimeError as error:
                self.users -= 1
                raise ConfigError(
                    f"{self._kind}_engine is 'native'; it cannot run: {error}"
                ) from None
            self.epoch += 1
        elif self.settings != settings:
            _LOG.warning(
                "%s: no effect, as the %s sampler runs already, with %s; stop the agents that use "
                "it, then start",
                _assignments(settings),
                self._kind,
                _assignments(self.settings),
            )

    def leave(self, stop: Callable[[], None]) -> None:
        """Stop it unless another agent uses it."""
        self.users -= 1
        if self.users == 0:
            stop()


class SharingEngine(ABC):
    """An engine of one agent, which has a part in a shared sampler.

    settings: what it wants of the sampler, by names in `Config`
    """

    name = "native"

    def __init__(self, sampler: SharedSampler, settings: Mapping[str, float]) -> None:
        self._sampler = sampler
        self._settings = settings
        self._running = False
        self._begun = 0  # how often

    def start(self) -> None:
        """Start the sampler, or join in where it runs. Does nothing if this engine runs.

        If it runs with other settings, these stay, and a warning is logged.

        Raises ConfigError if it cannot run.
        """
        with self._sampler.lock:
            if not self._running:
                self._sampler.join(self._settings, self._launch)
                self._running = True
                self._begun += 1

    def stop(self) -> None:
        """Stop the sampler unless another agent uses it. Does nothing if this does not run."""
        with self._sampler.lock:
            if self._running:
                self._running = False
                self._sampler.leave(self._halt)

    @abstractmethod
    def _launch(self) -> None:
        """Start the sampler itself. Raises RuntimeError if it cannot run."""

    @abstractmethod
    def _halt(self) -> None:
        """Stop the sampler itself."""


def _assignments(settings: Mapping[str, float]) -> str:
    return ", ".join(f"{name}={value:g}" for name, value in settings.items())


class NativeStackNames:
    """The stacks of a sampler's snapshots, in frames; what is named is kept for the next one."""

    def __init__(self, names: FrameNames) -> None:
        self._names = names
        self._epoch = -1
        # By the sampler's numbers, the first of which are no function and the empty stack.
        self._functions: list[tuple[str, str, int]] = [("", "", 0)]
        self._frames: list[Frame] = [NO_PYTHON]
        self._stacks: list[tuple[Frame, ...]] = []  # by its row, as far as they are kept
        self._bytes = 0  # of functions and stacks

    @property
    def own_bytes(self) -> int:
        """What is kept, without the frames, which are those of `FrameNames`."""
        return self._bytes + sum(map(sys.getsizeof, (self._functions, self._frames, self._stacks)))

    def stacks(
        self, epoch: int, snapshot: Snapshot, functions: int, nodes: int, rows: int
    ) -> list[tuple[Frame, ...]]:
        """The stack of each row. The GIL is held without a break for some milliseconds at most.

        epoch: another number once functions, nodes and rows have others
        """
        if epoch != self._epoch:
            self._epoch, self._stacks, self._bytes = epoch, [], 0
            self._functions, self._frames = self._functions[:1], self._frames[:1]
        # Held here, as a signal handler may stop and start the engine meanwhile; and filled by
        # place, as it may ask for a profile.
        named, frames, kept = self._functions, self._frames, self._stacks
        for start, stop in batches(len(named), functions):
            new = core.snapshot_functions(snapshot, start, stop)
            self._bytes += sum(sys.getsizeof(each) + sum(map(sys.getsizeof, each)) for each in new)
            named[start:stop] = new
        for start, stop in batches(len(frames), nodes):
            frames[start:stop] = [
                self._names.of_function(*named[function], line)
                if function
                else _MARKERS.get(line, NO_PYTHON)
                for function, line in core.snapshot_nodes(snapshot, start, stop)
            ]
        for start, stop in batches(len(kept), min(rows, MAX_STACKS_KEPT)):
            made = core.snapshot_stacks(snapshot, start, stop, frames)
            self._bytes += sum(map(sys.getsizeof, made))
            kept[start:stop] = made
        stacks = kept[:rows]
        for start, stop in batches(len(stacks), rows):
            stacks += core.snapshot_stacks(snapshot, start, stop, frames)
        return stacks
