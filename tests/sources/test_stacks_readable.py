"""Valid code objects are never refused: a walk of this thread's stack shows what Python shows.

The sampler refuses what cannot be a code object. It must accept every real one, however it was
made, and those that the interpreter itself puts between two functions.
"""

from __future__ import annotations

import asyncio
import contextlib
import ctypes
import functools
import gc
import sys
from collections.abc import AsyncIterator, Callable, Generator, Iterator
from types import CodeType, FrameType, FunctionType
from typing import Any

import pytest

from pyprof_agent.sources import stacks_native

if not stacks_native.unusable():
    from pyprof_agent._native import core

pytestmark = pytest.mark.skipif(
    bool(stacks_native.unusable()), reason=stacks_native.unusable() or "-"
)

WARM = 200
"""Calls after which the interpreter has specialised what it can."""


def look() -> None:
    """The caller's stack, read as other threads' stacks are, is what Python shows."""
    walked, shown = both()
    assert walked == shown


def both() -> tuple[list[CodeType], list[CodeType]]:
    """The stack of this thread as the sampler reads it, and as Python shows it."""
    walked = [code for code, _ in core.own_stack_walked(core.MAX_FRAMES)]
    shown: list[CodeType] = []
    frame: FrameType | None = sys._getframe()
    while frame is not None:
        shown.append(frame.f_code)
        frame = frame.f_back
    return walked, shown


def a_class_is_called() -> None:
    class Item:
        def __init__(self) -> None:
            look()

    for _ in range(WARM):
        Item()


def a_property_and_an_operator() -> None:
    class Item:
        @property
        def value(self) -> int:
            look()
            return 1

        def __getitem__(self, key: int) -> int:
            look()
            return key

        def __getattribute__(self, name: str) -> object:
            if name == "anything":
                look()
            return object.__getattribute__(self, name)

        anything = 1

    item = Item()
    for _ in range(WARM):
        assert item.value + item[1] + item.anything == 3


def functions_of_every_number() -> None:
    # Up to 3.12 a call waits at a number that the interpreter keeps, as that of a function called
    # by [] (its last byte may be any): it must not be taken for an instruction.
    for _ in range(256):

        class Item:
            def __getitem__(self, key: int) -> int:
                look()
                return key

            @property
            def value(self) -> int:
                look()
                return 1

        def call(item: Item) -> None:
            assert item[1] == item.value

        for _ in range(20):
            call(Item())


def generators_and_coroutines() -> None:
    def numbers() -> Iterator[int]:
        look()
        yield 1
        look()

    async def wait() -> None:
        look()
        await asyncio.sleep(0)
        look()

    for _ in range(WARM):
        assert sum(number for number in numbers()) == 1
    asyncio.run(wait())


def python_that_c_calls() -> None:
    def key(number: int) -> int:
        look()
        return number

    for _ in range(WARM):
        sorted([2, 1], key=key)
        functools.reduce(lambda total, number: key(total + number), [1, 2])


def code_that_was_executed() -> None:
    exec(compile("look()\n[look() for _ in range(3)]", "<made>", "exec"), {"look": look})
    eval("look()", {"look": look})


class Text(str):
    """A string that is none exactly; the next two likewise."""


class Items(tuple[object, ...]):
    pass


class Octets(bytes):
    pass


def code_that_was_replaced() -> None:
    def ordinary() -> None:
        look()

    for changes in (
        {"co_filename": Text("elsewhere.py"), "co_name": Text("other")},
        {"co_linetable": b"", "co_firstlineno": 0},
        {"co_stacksize": 1000},
        {"co_consts": (*ordinary.__code__.co_consts, "more")},
        {"co_consts": Items(ordinary.__code__.co_consts)},
        {"co_names": Items(ordinary.__code__.co_names)},
        {"co_linetable": Octets(ordinary.__code__.co_linetable)},
        {"co_exceptiontable": Octets(ordinary.__code__.co_exceptiontable)},
    ):
        code = ordinary.__code__.replace(**changes)
        FunctionType(code, globals())()


def code_of_more_than_a_megabyte() -> None:
    lines = "\n".join(f"    x = {number} + x * x" for number in range(120_000))
    names: dict[str, Callable[[], None]] = {}
    exec(f"def long(x=0):\n    look()\n    if x is None:\n{indented(lines)}\n", globals(), names)
    assert len(names["long"].__code__.co_code) > 2**20
    names["long"]()


def indented(lines: str) -> str:
    return "\n".join(f"    {line}" for line in lines.splitlines())


def constants_that_old_extensions_have_counted() -> None:
    # What was compiled for 3.11's stable ABI counts what lives for ever on into the 33rd bit.
    if sys.version_info[:2] not in ((3, 12), (3, 13)):
        return
    constants: tuple[object, ...] = (b"", ())
    counts = [ctypes.c_uint64.from_address(id(constant)) for constant in constants]
    before = [count.value for count in counts]
    for count in counts:
        count.value += 1000
    try:
        exec("look()", {"look": look})
        look()
    finally:
        for count, value in zip(counts, before, strict=True):
            count.value = value


def code_that_is_traced() -> None:
    def trace(frame: FrameType, event: str, argument: object) -> object:
        if event == "return" and frame.f_code is traced.__code__:
            look()
        return trace

    def traced() -> int:
        look()
        return 1

    before = sys.gettrace()
    sys.settrace(trace)  # type: ignore[arg-type]
    try:
        for _ in range(WARM):
            traced()
    finally:
        sys.settrace(before)


def a_handler_and_an_end_of_a_block() -> None:
    class Block:
        def __enter__(self) -> None:
            look()

        def __exit__(self, *raised: object) -> bool:
            look()
            return True

    for _ in range(WARM):
        with Block():
            try:
                raise ValueError
            finally:
                look()


def finalizers_and_collections() -> None:
    # They run between two functions: above a frame that has been left, or one still being made.
    # What is raised there reaches nobody, so it is counted.
    wrong: list[str] = []

    def note() -> None:
        walked, shown = both()
        if walked != shown:
            wrong.append(shown[1].co_name)

    class Item:
        def __del__(self) -> None:
            note()

    def leave() -> None:
        item = Item()  # noqa: F841 (dies as the function returns)

    def abandon() -> None:
        items: list[object] = [Item()]
        items.append(items)

    def gather(*values: int, **named: int) -> int:
        return len(values) + len(named)

    def collected(phase: str, info: dict[str, int]) -> None:
        note()

    thresholds = gc.get_threshold()
    gc.callbacks.append(collected)
    gc.set_threshold(1)
    try:
        for number in range(WARM):
            leave()
            abandon()
            gather(number, number, key=number)
    finally:
        gc.set_threshold(*thresholds)
        gc.callbacks.remove(collected)
    assert not wrong


def coroutines_that_are_thrown_into() -> None:
    class Item:
        def __await__(self) -> Generator[None, None, None]:
            try:
                yield
            except KeyError:
                look()
                raise
            finally:
                look()

    async def inner() -> None:
        try:
            await Item()
        except KeyError:
            look()
            raise

    async def outer() -> None:
        await inner()

    def nested() -> Generator[None, None, None]:
        try:
            yield
        finally:
            look()

    def delegating() -> Generator[None, None, None]:
        try:
            yield from nested()
        finally:
            look()

    async def stream() -> AsyncIterator[None]:
        try:
            await Item()
            yield
        finally:
            look()

    async def consume() -> None:
        async for _ in stream():
            pass

    def waiting() -> Iterator[Generator[Any, None, Any]]:
        for make in (outer, consume):
            yield make().__await__()
        yield delegating()

    for _ in range(WARM):
        for generator in waiting():
            next(generator)
            with contextlib.suppress(KeyError):
                generator.throw(KeyError())
        for generator in waiting():
            next(generator)
            generator.close()


@pytest.mark.parametrize(
    "case",
    [
        a_class_is_called,
        a_property_and_an_operator,
        functions_of_every_number,
        generators_and_coroutines,
        python_that_c_calls,
        code_that_was_executed,
        code_that_was_replaced,
        code_of_more_than_a_megabyte,
        constants_that_old_extensions_have_counted,
        code_that_is_traced,
        a_handler_and_an_end_of_a_block,
        finalizers_and_collections,
        coroutines_that_are_thrown_into,
    ],
    ids=lambda case: case.__name__,
)
def test_the_stack_is_read_where(case: Callable[[], None]) -> None:
    case()
