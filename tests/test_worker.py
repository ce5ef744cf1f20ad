"""The worker: what it carries to those who wait, and its life."""

from __future__ import annotations

import asyncio
import gc
import signal
import sys
import threading
import time
import weakref
from collections.abc import Callable, Iterator

import pytest

from pyprof_agent import NotRunningError
from pyprof_agent.hidden_thread import HIDDEN, HiddenThread
from pyprof_agent.own_process import WORKER_THREAD as THREAD
from pyprof_agent.worker import Worker
from tests.support import run_python


@pytest.fixture
def worker() -> Iterator[Worker]:
    """A worker, ended after the test."""
    worker = Worker()
    yield worker
    worker.end()


def workers_threads() -> list[HiddenThread]:
    return [thread for thread in HIDDEN.values() if thread.name == THREAD]


def fail(error: BaseException) -> None:
    raise error


def test_a_function_runs_with_its_arguments_in_a_thread_that_nobody_comes_across(
    worker: Worker,
) -> None:
    threads = threading.enumerate()

    def look(*arguments: int, named: int) -> tuple[object, ...]:
        assert threading.enumerate() == threads
        return HIDDEN[threading.get_ident()].name, arguments, named

    assert workers_threads() == []
    result = asyncio.run(worker.run(look, 1, 2, named=3))
    assert result == ("pyprof-agent-worker", (1, 2), 3)


def test_functions_run_one_after_the_other(worker: Worker) -> None:
    running: list[int] = []
    most: list[int] = []

    def work(number: int) -> int:
        running.append(number)
        most.append(len(running))
        time.sleep(0.01)
        running.remove(number)
        return number

    async def program() -> list[int]:
        return await asyncio.gather(*(worker.run(work, number) for number in range(20)))

    assert asyncio.run(program()) == list(range(20))
    assert max(most) == 1


@pytest.mark.parametrize("error", [KeyError("no"), NotRunningError("off"), GeneratorExit()])
def test_what_a_function_raises_reaches_who_waits(worker: Worker, error: BaseException) -> None:
    async def program() -> None:
        with pytest.raises(type(error)) as caught:
            await worker.run(fail, error)
        assert caught.value is error
        assert await worker.run(int, "7") == 7

    asyncio.run(program())


def test_a_stop_iteration_is_told_too(worker: Worker) -> None:
    async def program() -> None:
        with pytest.raises(RuntimeError, match=r"raised StopIteration\('end'\)"):
            await asyncio.wait_for(worker.run(fail, StopIteration("end")), 10)

    asyncio.run(program())


def test_a_call_that_is_cancelled_before_its_turn_is_skipped(worker: Worker) -> None:
    go = threading.Event()
    called: list[str] = []

    async def program() -> None:
        first = asyncio.create_task(worker.run(go.wait, 10))
        second = asyncio.create_task(worker.run(called.append, "second"))
        third = asyncio.create_task(worker.run(called.append, "third"))
        await asyncio.sleep(0.05)
        second.cancel()
        first.cancel()  # it runs already: its result is for nobody
        with pytest.raises(asyncio.CancelledError):
            await second
        go.set()
        await third

    asyncio.run(program())
    assert called == ["third"]


def test_a_loop_that_is_closed_meanwhile_harms_nobody(worker: Worker) -> None:
    go = threading.Event()

    async def give_up() -> None:
        with pytest.raises(asyncio.TimeoutError):
            await asyncio.wait_for(worker.run(go.wait, 10), 0.05)

    asyncio.run(give_up())
    go.set()
    assert asyncio.run(worker.run(int, "7")) == 7


def test_loops_of_several_threads_share_it(worker: Worker) -> None:
    results: list[int] = []

    def serve() -> None:
        async def program() -> list[int]:
            return await asyncio.gather(*(worker.run(int, str(n)) for n in range(50)))

        results.extend(asyncio.run(program()))

    threads = [threading.Thread(target=serve) for _ in range(5)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sorted(results) == sorted([*range(50)] * 5)


def test_after_its_end_it_takes_nothing_but_does_what_it_has_taken(worker: Worker) -> None:
    async def program() -> list[object]:
        tasks = [asyncio.create_task(worker.run(time.sleep, 0.05)) for _ in range(2)]
        await asyncio.sleep(0.01)
        worker.end()
        worker.end()
        with pytest.raises(NotRunningError):
            await worker.run(int)
        return await asyncio.gather(*tasks)

    assert asyncio.run(program()) == [None, None]
    deadline = time.monotonic() + 5
    while workers_threads() and time.monotonic() < deadline:
        time.sleep(0.01)
    assert workers_threads() == []


def test_results_are_not_kept(worker: Worker) -> None:
    class Thing:
        pass

    async def program() -> weakref.ref[Thing]:
        return weakref.ref(await worker.run(Thing))

    reference = asyncio.run(program())
    deadline = time.monotonic() + 5
    while reference() is not None and time.monotonic() < deadline:
        gc.collect()
        time.sleep(0.01)
    assert reference() is None


def test_a_thread_that_cannot_be_started_is_told(
    worker: Worker, monkeypatch: pytest.MonkeyPatch
) -> None:
    def no_threads(*arguments: object) -> None:
        raise RuntimeError("can't start new thread")

    async def program() -> None:
        with monkeypatch.context() as patch:
            patch.setattr("_thread.start_new_thread", no_threads)
            with pytest.raises(RuntimeError, match="can't start new thread"):
                await worker.run(int)
        assert await worker.run(int, "7") == 7

    asyncio.run(program())


def test_an_idle_thread_is_taken_away_before_a_fork_and_a_busy_one_is_not(worker: Worker) -> None:
    go = threading.Event()

    async def program() -> None:
        await worker.run(int)
        await asyncio.sleep(0.05)  # until it waits for the next
        worker.before_fork()
        assert workers_threads() == []
        worker.after_fork(child=False)
        busy = asyncio.create_task(worker.run(go.wait, 10))
        await asyncio.sleep(0.05)
        begin = time.monotonic()
        worker.before_fork()
        assert time.monotonic() - begin < 0.5
        assert len(workers_threads()) == 1
        worker.after_fork(child=False)
        go.set()
        assert await busy

    asyncio.run(program())


FORK = """
import asyncio, os, threading, time
from pyprof_agent.worker import Worker

worker = Worker()
go = threading.Event()

async def busy():
    task = asyncio.create_task(worker.run(go.wait, 10))
    await asyncio.sleep(0.05)
    worker.before_fork()
    child = os.fork()
    worker.after_fork(child=child == 0)
    if child == 0:
        os._exit(asyncio.run(worker.run(int, "7")))  # asyncio leaves the loop to the parent
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 7
    go.set()
    print(await task)

asyncio.run(busy())
"""


@pytest.mark.skipif(
    sys.platform == "win32" or sys.version_info >= (3, 12),
    reason="there is no fork, or it is warned of beside a thread, as an error here",
)
def test_a_forked_child_has_a_worker_of_its_own() -> None:
    assert run_python(FORK).stdout == "True\n"


AFTER_THE_MAIN_THREAD = """
import asyncio, threading
import pyprof_agent

agent = pyprof_agent.start(stack_hz=1000, heap_sample_bytes=1)

def serve():
    threading.main_thread().join()
    async def program():
        for name in ("heap", "allocs", "profile", "wall", "goroutine", "threadcreate"):
            assert (await agent.capture_async(name)).samples, name
            assert (await agent.capture_async(name, 0.1)) is not None
        return "done"
    print(asyncio.run(program()))

threading.Thread(target=serve).start()
"""


def test_captures_go_on_after_the_main_thread_has_ended() -> None:
    result = run_python(AFTER_THE_MAIN_THREAD)
    assert (result.stdout, result.stderr) == ("done\n", "")


class Clockwork:
    """A chore each 10 ms."""

    def __init__(self) -> None:
        self.begun = 0
        self.done: list[str] = []
        self.due = 0.0

    def begin(self) -> None:
        self.begun += 1
        self.due = time.monotonic() + 0.01

    def run(self) -> None:
        self.done.append(HIDDEN[threading.get_ident()].name)
        self.due = time.monotonic() + 0.01


def until(condition: Callable[[], bool]) -> None:
    deadline = time.monotonic() + 10
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.005)


def test_chores_are_done_by_the_clock_from_the_start_on_between_other_work() -> None:
    chore = Clockwork()
    worker = Worker([chore])
    assert (chore.begun, workers_threads()) == (1, [])
    worker.start()
    worker.start()
    until(lambda: len(chore.done) >= 3)
    assert len(workers_threads()) == 1
    assert asyncio.run(worker.run(int, "7")) == 7
    before = len(chore.done)
    until(lambda: len(chore.done) > before)
    worker.end()
    until(lambda: workers_threads() == [])
    assert set(chore.done) == {THREAD}
    assert chore.begun == 1


def test_chores_go_on_after_a_fork_in_the_parent_and_begin_anew_in_the_child() -> None:
    chore = Clockwork()
    worker = Worker([chore])
    worker.start()
    for child, begun in ((False, 1), (True, 2)):
        worker.before_fork()
        until(lambda: workers_threads() == [])
        worker.after_fork(child=child)
        before = len(chore.done)
        until(lambda before=before: len(chore.done) > before)  # type: ignore[misc]
        assert chore.begun == begun
    worker.end()
    worker.start()
    until(lambda: workers_threads() == [])


# A handler that raises comes at any moment of a start; the thread that starts it must have its
# signals back. The handler of SIGUSR1 is kept from the block in which it may not raise.
RAISING_HANDLER = """
import _signal, os, signal, threading, time
from pyprof_agent.hidden_thread import HiddenThread

class Stop(Exception):
    pass

def handle(number, frame):
    if raising:
        raise Stop

raising = False
signal.signal(signal.SIGUSR1, handle)
main = threading.main_thread().ident

def pester():
    while True:
        time.sleep(0.0002)
        signal.pthread_kill(main, signal.SIGUSR1)

threading.Thread(target=pester, daemon=True).start()
end = time.monotonic() + 3
stops = 0
while time.monotonic() < end:
    try:
        raising = True
        while True:
            HiddenThread(time.monotonic, "short").start()
    except Stop:
        raising = False
        stops += 1
    assert not _signal.pthread_sigmask(signal.SIG_BLOCK, ()), stops
print("done" if stops > 100 else stops, flush=True)
os._exit(0)
"""


@pytest.mark.skipif(not hasattr(signal, "pthread_kill"), reason="there are no such signals")
def test_a_signal_handler_that_raises_in_a_start_leaves_no_signal_blocked() -> None:
    result = run_python(RAISING_HANDLER)
    assert (result.stdout, result.stderr) == ("done\n", "")
