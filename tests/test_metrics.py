"""The metrics: their names and labels, what there is when, that they are cheap and never fail."""

from __future__ import annotations

import logging
import statistics
import threading
import time
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, replace
from typing import cast

import pytest
from prometheus_client import CollectorRegistry, Metric, generate_latest
from prometheus_client.parser import text_string_to_metric_families

import pyprof_agent
from pyprof_agent import Agent, Config, LeakReport
from pyprof_agent.leaks.growth import LEAK, Growth
from pyprof_agent.leaks.trend import Trend
from pyprof_agent.leaks.verdict import Suspect
from pyprof_agent.metrics import METRICS, MOST_SUSPECTS, Metrics
from pyprof_agent.profile import Frame
from pyprof_agent.sources import heap_native
from tests.leaks.test_report import LINE, watched
from tests.support import run_python

MIB = 2**20

needs_native = pytest.mark.skipif(
    bool(heap_native.unusable()), reason=heap_native.unusable() or "-"
)

Values = dict[tuple[str, ...], float]


@dataclass
class Watch:
    """What of a watch is exported."""

    last: LeakReport | None = None
    in_use: float | None = None


@dataclass
class MadeUp:
    """An agent of which everything is made up."""

    running: bool = True
    watch: Watch | None = field(default_factory=Watch)
    numbers: dict[str, Mapping[str, float]] = field(default_factory=dict)

    def costs(self) -> dict[str, Mapping[str, float]]:
        return {"work": {}, **self.numbers}


def metrics_of(agent: MadeUp) -> Metrics:
    return Metrics(cast(Agent, agent))


def scraped(metrics: Metrics) -> dict[str, Values]:
    """By name, and by the values of the labels, as Prometheus reads them."""
    registry = CollectorRegistry()
    registry.register(metrics)
    found: dict[str, Values] = {}
    for family in text_string_to_metric_families(generate_latest(registry).decode()):
        labels = {name: METRICS[name][1] for name in METRICS}
        for sample in family.samples:
            assert set(sample.labels) == set(labels[sample.name])
            key = tuple(sample.labels[name] for name in labels[sample.name])
            values = found.setdefault(sample.name, {})
            assert (
                key not in values
            )  # Prometheus refuses a scrape with a series that is there twice
            values[key] = sample.value
    return found


def suspect(number: int, *, hourly: float = 1000.0, line: Frame | None = None) -> Suspect:
    growth = Growth(LEAK, "of a test", Trend(hourly, hourly, hourly, 0.0))
    return Suspect(line or Frame(f"f{number}", "f.py", number, number), growth, 0.1)


def with_suspects(suspects: Iterable[Suspect]) -> MadeUp:
    report = watched(8)
    spans = (replace(report.spans[0], suspects=tuple(suspects)),)
    return MadeUp(watch=Watch(replace(report, spans=spans)))


def test_without_an_agent_there_is_nothing_but_that() -> None:
    assert scraped(Metrics()) == {"pyprof_agent_up": {(): 0.0}}
    stopped = MadeUp(running=False, watch=Watch(watched(8)))
    assert scraped(metrics_of(stopped)) == {"pyprof_agent_up": {(): 0.0}}


def test_it_is_the_agent_that_runs_at_the_scrape() -> None:
    metrics = Metrics()
    pyprof_agent.start(leak_window=3600)
    found = scraped(metrics)
    assert found["pyprof_agent_up"] == {(): 1.0}
    assert found["pyprof_agent_leak"] == {(): 0.0}
    assert found["pyprof_agent_resident_memory_bytes"][()] > 5 * MIB
    assert set(found["pyprof_agent_cpu_seconds_total"]) == {("stacks",), ("leaks",)}
    assert ("stacks", "overflowed") in found["pyprof_agent_lost_samples_total"]
    assert "pyprof_agent_work_units_total" not in found
    pyprof_agent.count(7)
    assert scraped(metrics)["pyprof_agent_work_units_total"] == {(): 7.0}
    pyprof_agent.stop()
    assert scraped(metrics) == {"pyprof_agent_up": {(): 0.0}}


def test_where_there_is_no_watch_there_is_no_verdict() -> None:
    agent = Agent(Config(leak_window=0, heap_engine="tracemalloc"))
    agent.start()
    try:
        found = scraped(Metrics(agent))
    finally:
        agent.stop()
    assert "pyprof_agent_leak" not in found
    assert found["pyprof_agent_heap_in_use_bytes"][()] > 0  # tracemalloc knows it at any time
    assert found["pyprof_agent_own_memory_bytes"][("heap",)] > 0


def test_a_leak_is_told_with_its_growth_and_its_line() -> None:
    found = scraped(metrics_of(MadeUp(watch=Watch(watched(8), 116.0 * MIB))))
    assert found["pyprof_agent_leak"] == {(): 1.0}
    assert found["pyprof_agent_heap_in_use_bytes"] == {(): 116.0 * MIB}
    for of in ("heap", "resident"):
        for least in ("", "_least"):
            hourly = found[f"pyprof_agent_growth{least}_bytes_per_hour"]
            ratio = found[f"pyprof_agent_growth{least}_ratio_per_hour"]
            assert hourly[of, "short"] == pytest.approx(16 * MIB, rel=0.01)
            assert ratio[of, "short"] == pytest.approx(0.08, rel=0.01)
    assert found["pyprof_agent_suspect_bytes_per_hour"] == {
        (LINE.function, LINE.filename, "40"): pytest.approx(16 * MIB, rel=0.01)
    }
    # 16 MiB and 6,000 units an hour.
    per_unit = found["pyprof_agent_worst_suspect_bytes_per_work_unit"][()]
    assert per_unit == pytest.approx(16 * MIB / 6000, rel=0.01)


def test_what_does_not_leak_is_told_with_its_growth() -> None:
    found = scraped(metrics_of(MadeUp(watch=Watch(watched(0)))))
    assert found["pyprof_agent_leak"] == {(): 0.0}
    assert found["pyprof_agent_growth_bytes_per_hour"] == {
        ("heap", "short"): 0.0,
        ("resident", "short"): 0.0,
    }
    assert not {name for name in found if "suspect" in name}


def test_below_the_limit_the_line_is_named_and_the_verdict_is_0() -> None:
    found = scraped(metrics_of(MadeUp(watch=Watch(watched(3)))))
    assert found["pyprof_agent_leak"] == {(): 0.0}
    assert len(found["pyprof_agent_suspect_bytes_per_hour"]) == 1


def test_a_day_has_a_span_of_its_own() -> None:
    report = watched(8)
    both = replace(report, spans=(report.spans[0], report.spans[0]))
    found = scraped(metrics_of(MadeUp(watch=Watch(both))))
    assert set(found["pyprof_agent_growth_bytes_per_hour"]) == {
        (of, span) for of in ("heap", "resident") for span in ("short", "long")
    }


def test_before_the_first_judgement_there_is_no_growth() -> None:
    found = scraped(metrics_of(MadeUp(watch=Watch())))
    assert set(found) == {
        "pyprof_agent_up",
        "pyprof_agent_leak",
        "pyprof_agent_resident_memory_bytes",
    }
    assert found["pyprof_agent_leak"] == {(): 0.0}


def test_a_bound_that_is_not_known_is_left_out() -> None:
    report = watched(8)
    growth = replace(report.spans[0].heap, hourly=Trend(1.0, float("-inf"), float("inf"), 0.0))
    report = replace(report, spans=(replace(report.spans[0], heap=growth, resident=None),))
    found = scraped(metrics_of(MadeUp(watch=Watch(report))))
    assert found["pyprof_agent_growth_bytes_per_hour"] == {("heap", "short"): 1.0}
    assert "pyprof_agent_growth_least_bytes_per_hour" not in found


def test_there_are_never_more_than_five_lines() -> None:
    suspects = [suspect(number, hourly=float(number)) for number in range(1, 31)]
    found = scraped(metrics_of(with_suspects(suspects)))
    lines = found["pyprof_agent_suspect_bytes_per_hour"]
    assert len(lines) == MOST_SUSPECTS
    assert lines["f30", "f.py", "30"] == 30.0


def test_names_that_are_no_text_or_not_unique_break_no_scrape() -> None:
    odd = Frame("shop.\udcff\n\"'{}", "/srv/\udc80.py", 1, 2)
    twins = [Frame("<lambda>", "f.py", first, 9) for first in (8, 9)]
    suspects = [suspect(0, line=line) for line in (odd, *twins)]
    lines = scraped(metrics_of(with_suspects(suspects)))["pyprof_agent_suspect_bytes_per_hour"]
    assert lines == {
        ("shop.\\udcff\n\"'{}", "/srv/\\udc80.py", "2"): 1000.0,
        ("<lambda>", "f.py", "9"): 2000.0,
    }


def test_every_metric_is_exported_by_a_service_that_has_all() -> None:
    numbers: dict[str, Mapping[str, float]] = {
        "heap": {"dropped": 1, "own_bytes": 5},
        "stacks": {"cpu_seconds": 1.5},
        "work": {"units": 7},
        "files": {"written": 3, "failures": 1},
    }
    full = metrics_of(MadeUp(watch=Watch(watched(8), 1.0), numbers=numbers))
    assert set(scraped(full)) == set(METRICS)
    assert scraped(full)["pyprof_agent_profile_files_failed_total"] == {(): 1.0}
    described = {metric.name for metric in full.describe()}
    assert described == {name.removesuffix("_total") for name in METRICS}


def test_it_never_fails_and_says_so_once(caplog: pytest.LogCaptureFixture) -> None:
    class Broken(MadeUp):
        def costs(self) -> dict[str, Mapping[str, float]]:
            raise ZeroDivisionError("of a test")

    metrics = metrics_of(Broken())
    for _ in range(3):
        assert scraped(metrics) == {"pyprof_agent_up": {(): 0.0}}
    (record,) = caplog.records
    assert record.levelno == logging.ERROR
    assert "the metrics failed" in record.message


def test_a_name_that_is_taken_is_refused_at_once() -> None:
    registry = CollectorRegistry()
    registry.register(Metrics())
    with pytest.raises(ValueError, match="Duplicate"):
        registry.register(Metrics())


MANY = """
def make():
    code = []
    for number in range(200):
        code.append(f"def f{number}(kind, then):")
        code += [f"    if kind == {kind}:\\n        return then()" for kind in range(10)]
    namespace = {}
    exec("\\n".join(code), namespace)
    functions = [namespace[f"f{number}"] for number in range(200)]
    return [
        one(kind, lambda: other(kind, lambda: bytearray(64)))
        for one in functions
        for other in functions[:10]
        for kind in range(10)
    ]
"""


@needs_native
def test_a_scrape_costs_as_much_with_20000_stacks_and_waits_for_no_profile() -> None:
    agent = Agent(Config(stacks=False, heap_sample_bytes=1, leak_window=3600))
    agent.start()
    try:
        namespace: dict[str, object] = {}
        exec(MANY + "kept = make()", namespace)
        assert agent.costs()["heap"]["stacks"] >= 20_000
        assert agent.watch is not None
        agent.watch.run()
        metrics = Metrics(agent)
        quiet = [_seconds(metrics) for _ in range(50)]
        over = threading.Event()
        busy = threading.Thread(target=_profiles, args=(agent, over))
        busy.start()
        beside = [_seconds(metrics) for _ in range(50) if not over.wait(0.01)]
        over.set()
        busy.join()
        began = time.perf_counter()
        agent.capture("heap")
        profile = time.perf_counter() - began
    finally:
        agent.stop()
    print(f"{1e3 * statistics.median(quiet):.2f} ms, and {1e3 * statistics.median(beside):.2f} ms")
    assert statistics.median(quiet) < 0.005
    # Each takes the GIL from the other for some milliseconds; it does not wait for the profile.
    assert statistics.median(beside) < max(profile, 0.03)


def _profiles(agent: Agent, over: threading.Event) -> None:
    while not over.is_set():
        agent.capture("heap")


def _seconds(metrics: Metrics) -> float:
    began = time.perf_counter()
    found: list[Metric] = list(metrics.collect())
    assert len(found) > 5
    return time.perf_counter() - began


@needs_native
def test_the_gauge_rises_when_a_real_process_leaks() -> None:
    per_unit = "pyprof_agent_worst_suspect_bytes_per_work_unit"
    agent = Agent(Config(stacks=False, heap_sample_bytes=64, leak_window=6))
    agent.start()
    agent.count()  # before the first look: where one knows of no work, bytes a unit are not told
    try:
        metrics, kept = Metrics(agent), []
        # On a busy machine the first looks are of few messages, and the rate is that of later ones.
        deadline = time.monotonic() + 60
        while not (found := scraped(metrics))["pyprof_agent_leak"][()] or (
            found[per_unit][()] != pytest.approx(128, rel=0.1) and time.monotonic() < deadline
        ):
            assert time.monotonic() < deadline
            for _ in range(50):
                kept.append(bytes(95))
                agent.count()
                time.sleep(0.002)
    finally:
        agent.stop()
    function, file, _ = max(
        found["pyprof_agent_suspect_bytes_per_hour"],
        key=found["pyprof_agent_suspect_bytes_per_hour"].__getitem__,
    )
    assert function.endswith("test_the_gauge_rises_when_a_real_process_leaks")
    assert file == __file__
    assert found[per_unit][()] == pytest.approx(128, rel=0.1)


def test_without_the_library_it_says_what_to_install() -> None:
    code = """
        import sys

        sys.modules["prometheus_client.core"] = None
        try:
            import pyprof_agent.metrics
        except ImportError as error:
            print(error)
    """
    assert run_python(code).stdout == (
        "pyprof_agent.metrics needs the library prometheus_client; install it with: "
        "pip install 'pyprof-agent[prometheus]'\n"
    )
