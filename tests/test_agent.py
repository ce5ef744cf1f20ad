"""The agent: what it captures, its life, and its errors."""

from __future__ import annotations

import asyncio
import threading
import time
import tracemalloc
from collections.abc import Iterator

import pytest

from pyprof_agent import (
    Agent,
    Config,
    ConfigError,
    NotRunningError,
    UnknownProfileError,
)
from pyprof_agent.formats.pprof import address
from pyprof_agent.hidden_thread import HIDDEN, HiddenThread
from pyprof_agent.own_process import SAMPLER_THREAD
from pyprof_agent.profile_rules import validate
from pyprof_agent.sources import heap_native, stacks_native

WITH_WINDOWS = (
    *("heap", "allocs", "profile", "wall", "goroutine", "threadcreate"),
    *("block", "mutex"),
)


@pytest.mark.parametrize("name", [*WITH_WINDOWS, "cpu", "fgprof", "delta_block", "delta_mutex"])
def test_every_profile_is_valid_with_and_without_a_window(agent: Agent, name: str) -> None:
    for seconds in (None, 0.2):
        profile = agent.capture(name, seconds)
        validate(profile)
        assert all(isinstance(value, int) for sample in profile.samples for value in sample.values)
        assert (profile.duration_nanos > 0) == (
            seconds is not None or name in ("profile", "cpu", "wall", "fgprof")
        )


def test_the_names_are_those_of_the_http_surface(agent: Agent) -> None:
    assert set(agent.profiles) == {*WITH_WINDOWS, "delta_heap"}


def test_it_knows_profiles_by_their_other_names(agent: Agent) -> None:
    assert agent.knows("heap")
    assert agent.knows("fgprof")
    assert not agent.knows("trace")
    without = Agent(Config(heap=False, stacks=False))
    assert [without.knows(name) for name in ("delta_heap", "fgprof", "cpu")] == [False] * 3


@pytest.fixture
def exact_agent() -> Iterator[Agent]:
    """An agent that misses no block of 100 kB."""
    agent = Agent(Config(stacks=False, heap_sample_bytes=1024))
    agent.start()
    yield agent
    agent.stop()


def test_delta_heap_is_since_it_was_last_captured(exact_agent: Agent) -> None:
    def allocate() -> list[bytes]:
        return [bytes(100_000) for _ in range(10)]

    def seen() -> tuple[float, float]:
        profile = exact_agent.capture("delta_heap")
        validate(profile)
        assert profile.duration_nanos == 0
        rows = [row for row in profile.samples if "allocate" in row.stack[0].function]
        # In whole megabytes: a block has a header, and its list is small.
        return (
            sum(row.values[profile.column("alloc_space")] for row in rows) // 1_000_000,
            sum(row.values[profile.column("inuse_space")] for row in rows) // 1_000_000,
        )

    assert seen() == (0, 0)
    kept = allocate()
    assert seen() == (1, 1)
    assert seen() == (0, 1)
    kept += allocate()
    assert seen() == (1, 2)
    kept.clear()
    assert seen() == (0, 0)


def test_delta_heap_has_no_windows(agent: Agent) -> None:
    with pytest.raises(ConfigError, match="delta_heap is always of the time since its last"):
        agent.capture("delta_heap", 1)


def test_delta_heap_begins_anew_with_the_agent(exact_agent: Agent) -> None:
    exact_agent.capture("delta_heap")
    exact_agent.stop()
    exact_agent.start()
    kept = [bytes(100_000) for _ in range(10)]
    assert exact_agent.capture("delta_heap").total("alloc_space") > 1_000_000
    assert kept


def test_heap_and_allocs_are_one_table_with_another_default(agent: Agent) -> None:
    heap, allocs = agent.capture("heap"), agent.capture("allocs")
    assert heap.sample_types == allocs.sample_types
    assert heap.default_sample_type == "inuse_space"
    assert allocs.default_sample_type == "alloc_space"


def test_engines_are_named(agent: Agent) -> None:
    native = not heap_native.unusable()
    stacks = "python" if stacks_native.unusable() else "native"
    assert agent.engines == {"heap": "native" if native else "tracemalloc", "stacks": stacks}
    assert ("heap" in agent.fallbacks) == (not native)
    assert Agent(Config(heap=False)).engines == {"heap": "off", "stacks": stacks}
    assert Agent(Config(heap=False, stack_engine="python")).engines["stacks"] == "python"


def test_without_the_native_engine_there_is_tracemalloc_and_a_reason(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(heap_native, "unusable", lambda: "it was not built")
    agent = Agent(Config())
    assert agent.engines["heap"] == "tracemalloc"
    assert agent.fallbacks["heap"] == "it was not built"
    agent.start()
    comments = agent.capture("heap").comments
    agent.stop()
    assert "the native heap engine is not used: it was not built" in comments
    chosen = Agent(Config(heap_engine="tracemalloc"))
    assert "heap" not in chosen.fallbacks, "that is no fallback but a wish"


def test_the_native_engine_is_refused_with_the_reason(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(heap_native, "unusable", lambda: "it was not built")
    with pytest.raises(ConfigError, match=r"cannot be used: it was not built\. "):
        Agent(Config(heap_engine="native"))


def test_an_unknown_profile_is_told_with_those_there_are(agent: Agent) -> None:
    with pytest.raises(UnknownProfileError, match=r"unknown profile 'heep'.*heap, allocs"):
        agent.capture("heep")


@pytest.mark.parametrize("seconds", [0, -1, float("nan")])
def test_a_window_must_be_positive(agent: Agent, seconds: float) -> None:
    with pytest.raises(ValueError, match=f"seconds is {seconds!r}"):
        agent.capture("heap", seconds)


def test_a_capture_before_start_and_after_stop_says_what_to_do() -> None:
    agent = Agent(Config())
    for _ in range(2):
        with pytest.raises(NotRunningError, match=r"call pyprof_agent\.start\(\) first"):
            agent.capture("goroutine")
        agent.start()
        agent.stop()


def test_a_stack_engine_that_cannot_be_used_is_refused_or_replaced(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(stacks_native, "unusable", lambda: "it is forbidden")
    message = "cannot be used: it is forbidden. Use 'auto' or 'python'"
    with pytest.raises(ConfigError, match=message):
        Agent(Config(stack_engine="native"))
    agent = Agent(Config())
    assert agent.engines["stacks"] == "python"
    assert agent.fallbacks["stacks"] == "it is forbidden"


def test_start_and_stop_are_idempotent_and_safe_from_many_threads() -> None:
    agent = Agent(Config(heap=False))
    failures: list[BaseException] = []

    def toggle() -> None:
        try:
            for _ in range(20):
                agent.start()
                agent.stop()
        except BaseException as error:
            failures.append(error)

    threads = [threading.Thread(target=toggle) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert failures == []
    assert not agent.running
    assert SAMPLER_THREAD not in {thread.name for thread in HIDDEN.values()}


def test_a_start_that_fails_half_way_leaves_nothing_on(monkeypatch: pytest.MonkeyPatch) -> None:
    def no_threads(self: HiddenThread) -> None:
        raise RuntimeError("can't start new thread")

    agent = Agent(Config(heap_sample_bytes=1, stack_engine="python"))
    monkeypatch.setattr(HiddenThread, "start", no_threads)
    with pytest.raises(RuntimeError, match="can't start new thread"):
        agent.start()
    assert not agent.running
    assert not tracemalloc.is_tracing()
    monkeypatch.undo()
    agent.start()
    assert agent.capture("heap").samples
    agent.stop()


def test_only_what_is_switched_on_is_started() -> None:
    agent = Agent(Config(heap=False, stacks=False))
    agent.start()
    assert not tracemalloc.is_tracing()
    assert SAMPLER_THREAD not in {thread.name for thread in HIDDEN.values()}
    agent.stop()


def test_an_async_capture_does_not_block_the_loop(agent: Agent) -> None:
    async def program() -> tuple[int, float]:
        ticks = 0
        begin = time.monotonic()
        capture = asyncio.create_task(agent.capture_async("wall", 0.5))
        while not capture.done():
            await asyncio.sleep(0.01)
            ticks += 1
        assert (await capture).samples
        return ticks, time.monotonic() - begin

    ticks, elapsed = asyncio.run(program())
    assert 0.5 <= elapsed < 3
    assert ticks > 15


def test_async_captures_overlap(agent: Agent) -> None:
    async def program() -> float:
        begin = time.monotonic()
        await asyncio.gather(*(agent.capture_async("profile", 0.4) for _ in range(10)))
        return time.monotonic() - begin

    assert asyncio.run(program()) < 2


def test_a_stop_that_takes_long_does_not_block_the_loop(agent: Agent) -> None:
    class Slow:
        name = "slow"

        def stop(self) -> None:
            time.sleep(1)

    async def program() -> float:
        agent._sources["slow"] = Slow()  # type: ignore[assignment]
        stopping = asyncio.create_task(asyncio.to_thread(agent.stop))
        await asyncio.sleep(0.1)
        begin = time.monotonic()
        with pytest.raises(NotRunningError):
            await agent.capture_async("goroutine")
        waited = time.monotonic() - begin
        await stopping
        return waited

    assert asyncio.run(program()) < 0.5


def test_a_cancelled_capture_leaves_the_agent_usable(agent: Agent) -> None:
    async def program() -> None:
        capture = asyncio.create_task(agent.capture_async("wall", 100))
        await asyncio.sleep(0.1)
        capture.cancel()
        with pytest.raises(asyncio.CancelledError):
            await capture
        assert (await agent.capture_async("goroutine")).samples

    asyncio.run(program())


def test_symbols_name_the_frames_of_profiles(agent: Agent) -> None:
    frame = agent.capture("goroutine").samples[0].stack[0]
    assert agent.symbols()[address(frame)] == frame.function


def test_a_window_can_be_ended_more_than_once(agent: Agent) -> None:
    window = agent.begin("wall")
    time.sleep(0.1)
    first = window.end()
    time.sleep(0.1)
    second = window.end()
    assert 0 < first.duration_nanos < second.duration_nanos


@pytest.mark.parametrize("name", ["heap", "allocs", "profile", "wall"])
def test_a_window_over_a_restart_is_refused(agent: Agent, name: str) -> None:
    window = agent.begin(name)
    agent.stop()
    agent.start()
    with pytest.raises(NotRunningError, match=r"began anew in the middle .* restarted"):
        window.end()
    assert agent.begin(name).end() is not None


def test_a_start_of_what_runs_ends_no_window(agent: Agent) -> None:
    windows = [agent.begin(name) for name in WITH_WINDOWS]
    agent.start()
    for window in windows:
        validate(window.end())


def test_stats_have_a_part_for_each_source(agent: Agent) -> None:
    assert set(agent.stats()) - {"leaks"} == {
        "threads",
        "names",
        "heap",
        "stacks",
        "work",
        "process",
    }


def test_stats_tell_the_memory_of_the_process_and_how_much_of_it_is_seen(agent: Agent) -> None:
    held = [bytes(1000) for _ in range(20_000)]
    process = agent.stats()["process"]
    assert process["resident_bytes"] > process["heap_bytes"] > 5e6
    assert process["seconds"] > process["agent_seconds"] > 0
    seen = agent.capture("heap").total("inuse_space")
    assert process["heap_bytes"] == pytest.approx(seen, rel=0.5)
    assert held


def test_stats_of_an_agent_that_does_not_run_have_no_heap() -> None:
    assert Agent(Config()).stats()["process"].get("heap_bytes") == 0
    assert "heap_bytes" not in Agent(Config(heap=False)).stats()["process"]
