"""One sampler for all agents: what the native engines have in common."""

from __future__ import annotations

import logging
import threading
from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping

from pyprof_agent import forks
from pyprof_agent.errors import ConfigError

_LOG = logging.getLogger("pyprof_agent")


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
