"""What the child processes of the native heap engine's tests are made of."""

from __future__ import annotations

import ctypes
import os
import signal
import threading
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager

from pyprof_agent.sources.heap_native import NativeHeap
from pyprof_agent.sources.naming import FrameNames

ALLOC_OBJECTS, ALLOC_SPACE, INUSE_OBJECTS, INUSE_SPACE = range(4)
RAW, MEM, OBJ = range(3)


def started(sample_bytes: int = 1, max_frames: int = 64) -> NativeHeap:
    """An engine that runs; it samples every block unless told otherwise."""
    heap = NativeHeap(FrameNames(), sample_bytes=sample_bytes, max_frames=max_frames, look_back=600)
    heap.start()
    return heap


def total(heap: NativeHeap, function: str) -> list[float]:
    """The values of all rows with a function of this name in their stack, added up."""
    rows = [
        sample.values
        for sample in heap.snapshot().samples
        if any(frame.function.rpartition(".")[2] == function for frame in sample.stack)
    ]
    return [sum(column) for column in zip(*rows, strict=True)] or [0] * 4


def grow(kept: list[object], count: int, size: int) -> None:
    """Put blocks of `size` bytes into the places of a list that are empty."""
    empty, payload = kept.index(None), size - 33
    for place in range(empty, empty + count):
        kept[place] = block(payload)


def block(payload: int) -> object:
    """An object of 33 bytes more, in one allocation and with no other."""
    return bytes(payload)


def blocks(heap: NativeHeap) -> list[float]:
    """What `grow` has put into lists."""
    return total(heap, "block")


class _Table(ctypes.Structure):
    _fields_ = [(name, ctypes.c_void_p) for name in ("ctx", "malloc", "calloc", "realloc", "free")]


def allocators() -> list[tuple[int | None, ...]]:
    """The functions of the three domains, as addresses."""
    tables = []
    for domain in (RAW, MEM, OBJ):
        table = _Table()
        ctypes.pythonapi.PyMem_GetAllocator(domain, ctypes.byref(table))
        tables.append(tuple(getattr(table, field[0]) for field in _Table._fields_))
    return tables


def raw(library: ctypes.CDLL) -> tuple[Callable[[int], int], Callable[[int], None]]:
    """PyMem_RawMalloc and PyMem_RawFree; of a CDLL they run without the GIL."""
    malloc, free = library.PyMem_RawMalloc, library.PyMem_RawFree
    malloc.restype, malloc.argtypes = ctypes.c_void_p, [ctypes.c_size_t]
    free.restype, free.argtypes = None, [ctypes.c_void_p]
    return malloc, free


def churn(stop: threading.Event) -> None:
    """Allocate and free with the GIL until told to stop."""
    while not stop.is_set():
        kept: list[object] = [bytes(size) for size in range(1, 2000, 7)]
        kept += [bytearray(size) for size in range(1, 2000, 97)]


def churn_without_gil(stop: threading.Event) -> None:
    """The same through the domain RAW, with the GIL released."""
    malloc, free = raw(ctypes.CDLL(None))
    while not stop.is_set():
        kept = [malloc(size) for size in range(1, 2000, 97)]
        for address in kept:
            free(address)


@contextmanager
def busy(with_gil: int = 2, without_gil: int = 2) -> Iterator[None]:
    """Threads that allocate meanwhile."""
    stop = threading.Event()
    targets: list[Callable[[threading.Event], None]] = [churn] * with_gil
    targets += [churn_without_gil] * without_gil
    threads = [threading.Thread(target=target, args=(stop,)) for target in targets]
    for thread in threads:
        thread.start()
    try:
        yield
    finally:
        stop.set()
        for thread in threads:
            thread.join()


def forked(work: Callable[[], object], seconds: int = 20) -> int:
    """A child that works and ends, or is killed; its process id."""
    child = os.fork()
    if child:
        return child
    signal.alarm(seconds)  # a child that hangs would hold the test's pipes for ever
    status = 1
    try:
        work()
        status = 0
    finally:
        os._exit(status)


def reap(children: Iterable[int]) -> None:
    """Wait for children, all of which have to end well."""
    statuses = [os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) for child in children]
    assert not any(statuses), statuses


def work_in_pool(count: int) -> tuple[float, float]:
    """What a worker of multiprocessing does: allocate, look, free, look."""
    heap = started()
    kept: list[object] = [None] * count
    grow(kept, count, 5000)
    held = blocks(heap)[INUSE_SPACE]
    kept.clear()
    freed = blocks(heap)[INUSE_SPACE]
    heap.stop()
    return held, freed
