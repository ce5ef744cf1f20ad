"""A service for the soak tests: 20,000 live stacks, and how late its event loop is."""

from __future__ import annotations

import asyncio
import contextlib
import gc
import os
import time
from collections.abc import AsyncIterator

from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import JSONResponse
from starlette.routing import Mount, Route

import pyprof_agent
from tests.soak.branching import blocks_of_many_stacks

STACKS = int(os.environ.get("STACKS", "20200"))
PAUSE = 0.001

late: list[tuple[float, bool]] = []
collections = 0  # begun and ended: the GIL may go to the loop between a collection and its count


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
kept = blocks_of_many_stacks(STACKS)

app = Starlette(
    routes=[Route("/late", lateness), Mount("/debug/pprof", pyprof_agent.make_asgi_app())],
    lifespan=lifespan,
)
