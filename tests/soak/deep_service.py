"""A service for the soak tests: 20,000 live stacks, and how late its event loop is."""

from __future__ import annotations

import asyncio
import contextlib
import gc
import os
import random
import time
from collections.abc import AsyncIterator
from typing import Any

from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import JSONResponse
from starlette.routing import Mount, Route

import pyprof_agent

STACKS = int(os.environ.get("STACKS", "20200"))
PAUSE = 0.001

late: list[tuple[float, bool]] = []
collections = 0  # begun and ended: the GIL may go to the loop between a collection and its count


def branching() -> Any:
    """A function that goes down a path of digits, each by other functions, and allocates there.

    Blocks are larger than the gap between samples, so that nearly each is one.
    """
    lines = ["def leaf(path, place):", "    return bytes(20_000)"]
    for caller in range(10):
        lines.append(f"def call_{caller}(path, place):")
        for callee in range(10):
            lines.append(f"    if path[place] == {callee}:")
            lines.append("        return step(path, place)(path, place + 1)")
    lines.append("def step(path, place):")
    lines.append("    return leaf if place + 1 == len(path) else calls[path[place + 1]]")
    space: dict[str, Any] = {}
    exec(compile("\n".join(lines), "generated.py", "exec"), space)
    space["calls"] = [space[f"call_{number}"] for number in range(10)]

    def descend(depth: int, path: list[int]) -> bytes:
        made: bytes = space["calls"][path[0]](path, 0) if depth == 0 else descend(depth - 1, path)
        return made

    return descend


async def watch() -> None:
    """Note how much later than asked the loop wakes, and whether all garbage was collected then."""
    gc.callbacks.append(count_full_collections)
    while True:
        begin, before = time.perf_counter(), collections
        await asyncio.sleep(PAUSE)
        late.append((time.perf_counter() - begin - PAUSE, collections > before or before % 2 == 1))


def count_full_collections(phase: str, info: dict[str, int]) -> None:
    global collections
    if info["generation"] == 2:
        collections += 1


async def lateness(request: Request) -> JSONResponse:
    """How late it was since it was last asked, in seconds, and if garbage was collected."""
    seen, late[:] = list(late), []
    return JSONResponse(seen)


@contextlib.asynccontextmanager
async def lifespan(app: Starlette) -> AsyncIterator[None]:
    task = asyncio.create_task(watch())
    yield
    task.cancel()


pyprof_agent.start(heap_engine="native", heap_sample_bytes=4000)
_descend, _dice = branching(), random.Random(1)
kept = [_descend(6, [_dice.randrange(10) for _ in range(18)]) for _ in range(STACKS)]

app = Starlette(
    routes=[Route("/late", lateness), Mount("/debug/pprof", pyprof_agent.make_asgi_app())],
    lifespan=lifespan,
)
