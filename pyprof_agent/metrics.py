"""What the agent knows as metrics for Prometheus, through the library prometheus_client."""

from __future__ import annotations

import contextlib
import logging
import math
from collections.abc import Iterable, Iterator, Mapping, Sequence

from pyprof_agent.agent import Agent
from pyprof_agent.errors import NotRunningError
from pyprof_agent.leaks.report import LeakReport
from pyprof_agent.leaks.verdict import Suspect
from pyprof_agent.own_process import resident_bytes
from pyprof_agent.process import current_agent

try:
    from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, Metric
    from prometheus_client.registry import Collector
except ImportError as error:
    raise ImportError(
        "pyprof_agent.metrics needs the library prometheus_client; install it with: "
        "pip install 'pyprof-agent[prometheus]'"
    ) from error

MOST_SUSPECTS = 5
"""Lines of code that have a series of their own: each line that was ever one makes a new series."""

METRICS: Mapping[str, tuple[str, tuple[str, ...]]] = {
    "pyprof_agent_up": ("1 while the agent runs and can tell; with 0 there are no others", ()),
    "pyprof_agent_resident_memory_bytes": ("The resident set of the process", ()),
    "pyprof_agent_heap_in_use_bytes": (
        "What Python's allocators have in use since the start of the agent, at its last look",
        (),
    ),
    "pyprof_agent_leak": (
        "1 while the watch finds memory to grow beyond the limit, else 0",
        (),
    ),
    "pyprof_agent_growth_bytes_per_hour": (
        "Growth of memory in the span, as last judged",
        ("of", "span"),
    ),
    "pyprof_agent_growth_least_bytes_per_hour": (
        "The lower bound of that growth, which holds with 99.9 %",
        ("of", "span"),
    ),
    "pyprof_agent_growth_ratio_per_hour": (
        "Growth of memory as a share of what the process had at the beginning of the span",
        ("of", "span"),
    ),
    "pyprof_agent_growth_least_ratio_per_hour": (
        "The lower bound of that share, which holds with 99.9 %",
        ("of", "span"),
    ),
    "pyprof_agent_suspect_bytes_per_hour": (
        f"Growth of the lines that grow all the time; at most {MOST_SUSPECTS}, who grows most",
        ("function", "file", "line"),
    ),
    "pyprof_agent_worst_suspect_bytes_per_work_unit": (
        "What the line that grows most keeps of each unit of work",
        (),
    ),
    "pyprof_agent_work_units_total": ("Work done, as the service counts it", ()),
    "pyprof_agent_cpu_seconds_total": ("CPU time that the agent's own threads took", ("part",)),
    "pyprof_agent_own_memory_bytes": ("Memory of the sampler's tables", ("part",)),
    "pyprof_agent_lost_samples_total": (
        "Samples, rows and looks that were lost, by the keys of Agent.stats()",
        ("source", "kind"),
    ),
    "pyprof_agent_profile_files_written_total": ("Profiles written to the folder", ()),
    "pyprof_agent_profile_files_failed_total": ("Profiles that could not be written", ()),
}
"""Every metric, with what it is and the names of its labels; a counter ends in `_total`."""

_LOSSES = {
    "heap": ("dropped", "overflowed", "folded", "subinterpreter"),
    "stacks": ("overflowed", "folded", "unreadable", "failures"),
    "leaks": ("failures",),
}
"""Numbers of each part of `Agent.stats()` that are losses, where the engine in use has them."""

_LOG = logging.getLogger("pyprof_agent")

_Value = tuple[str, tuple[str, ...], float]


class Metrics(Collector):
    """A collector of prometheus_client: `REGISTRY.register(Metrics())`.

    agent: whose metrics; None is the process's own, looked up at each scrape
    """

    def __init__(self, agent: Agent | None = None) -> None:
        self._agent = agent
        self._failed = False

    def describe(self) -> Iterable[Metric]:
        """All metrics without values: a registry asks, to know of names that are taken."""
        return [_empty(name) for name in METRICS]

    def collect(self) -> Iterable[Metric]:
        """All that is known now, at the cost of some hundred microseconds, whatever the heap has.

        Nothing is looked at or judged anew. Never raises: that would take the service's own
        metrics with it.
        """
        found: list[_Value] = [("pyprof_agent_up", (), 0.0)]
        try:
            agent = current_agent() if self._agent is None else self._agent
            if agent.running:
                found = list(_values(agent))
        except NotRunningError:
            pass
        except Exception:
            if not self._failed:
                self._failed = True
                _LOG.exception("the metrics failed; further failures are not logged")
        return _families(found)


def _empty(name: str) -> CounterMetricFamily | GaugeMetricFamily:
    text, labels = METRICS[name]
    family = CounterMetricFamily if name.endswith("_total") else GaugeMetricFamily
    return family(name, text, labels=labels)


def _families(values: Iterable[_Value]) -> list[Metric]:
    families: dict[str, CounterMetricFamily | GaugeMetricFamily] = {}
    for name, labels, value in values:
        family = families.get(name)
        if family is None:
            family = families[name] = _empty(name)
        family.add_metric(labels, value)
    return list(families.values())


def _values(agent: Agent) -> Iterator[_Value]:
    costs, watch = agent.costs(), agent.watch
    yield "pyprof_agent_up", (), 1.0
    with contextlib.suppress(OSError):  # there is no /proc, or no descriptor left
        yield "pyprof_agent_resident_memory_bytes", (), float(resident_bytes())
    heap = costs.get("heap", {})
    # To add up the samples of the native engine takes milliseconds, and as long as a profile where
    # one is being made. A look has done so a minute ago.
    in_use = heap.get("traced_bytes", None if watch is None else watch.in_use)
    if in_use is not None:
        yield "pyprof_agent_heap_in_use_bytes", (), in_use
    if watch is not None:
        last = watch.last
        yield "pyprof_agent_leak", (), float(last is not None and bool(last.alarms))
        if last is not None:
            yield from _growth(last)
            yield from _suspects(last.suspects[:MOST_SUSPECTS])
    yield from _costs(costs)


def _growth(report: LeakReport) -> Iterator[_Value]:
    for name, span in zip(("short", "long"), report.spans, strict=False):
        for of, growth in (("heap", span.heap), ("resident", span.resident)):
            if growth is None or growth.hourly is None:
                continue
            bounds = {"": growth.hourly.slope, "_least": growth.hourly.low}
            for which, value in bounds.items():
                if math.isfinite(value):  # few services that store metrics take another
                    metric = f"pyprof_agent_growth{which}"
                    yield f"{metric}_bytes_per_hour", (of, name), value
                    yield f"{metric}_ratio_per_hour", (of, name), value / span.base


def _suspects(suspects: Sequence[Suspect]) -> Iterator[_Value]:
    hourly: dict[tuple[str, ...], float] = {}
    for suspect in suspects:
        line, growth = suspect.line, suspect.growth.hourly
        # Names may hold what is no text in UTF-8. Two lines may have one name: a lambda in another.
        names = (line.function, line.filename, str(line.line))
        labels = tuple([name.encode(errors="backslashreplace").decode() for name in names])
        if growth is not None:
            hourly[labels] = hourly.get(labels, 0.0) + growth.slope
    for labels, value in hourly.items():
        yield "pyprof_agent_suspect_bytes_per_hour", labels, value
    if suspects and suspects[0].growth.per_unit is not None:
        per_unit = suspects[0].growth.per_unit.slope
        yield "pyprof_agent_worst_suspect_bytes_per_work_unit", (), per_unit


def _costs(costs: Mapping[str, Mapping[str, float]]) -> Iterator[_Value]:
    if "units" in costs["work"]:
        yield "pyprof_agent_work_units_total", (), costs["work"]["units"]
    for part, numbers in costs.items():
        if "cpu_seconds" in numbers:
            yield "pyprof_agent_cpu_seconds_total", (part,), numbers["cpu_seconds"]
        own = numbers.get("own_bytes", numbers.get("overhead_bytes"))  # the latter: tracemalloc
        if own is not None:
            yield "pyprof_agent_own_memory_bytes", (part,), own
        for kind in _LOSSES.get(part, ()):
            if kind in numbers:
                yield "pyprof_agent_lost_samples_total", (part, kind), numbers[kind]
    if "files" in costs:
        yield "pyprof_agent_profile_files_written_total", (), costs["files"]["written"]
        yield "pyprof_agent_profile_files_failed_total", (), costs["files"]["failures"]
