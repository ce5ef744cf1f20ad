"""Producers: tasks that send messages, at a rate or as fast as it goes."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable

from pyprof_agent import count

PRODUCERS = 4

_TICK = 0.001
"""Seconds between two batches at least: an event loop does not wake more precisely."""

_BATCH = 1000
"""Messages between two turns of others, where no rate is wished for."""

SendMany = Callable[[int], Awaitable[None]]
"""Sends so many messages."""


async def produce(messages: int, rate: float, send: SendMany) -> None:
    """Have all producers together send so many messages.

    rate: messages a second, of all of them; 0 is as fast as it goes
    """
    shares = [messages // PRODUCERS + (place < messages % PRODUCERS) for place in range(PRODUCERS)]
    await asyncio.gather(*(_produce(share, rate / PRODUCERS, send) for share in shares))


async def _produce(messages: int, rate: float, send: SendMany) -> None:
    async for batch in _due(messages, rate):
        await send(batch)
        count(batch)  # the agent then tells growth by message


async def _due(messages: int, rate: float) -> AsyncIterator[int]:
    """How many messages are to be sent now, again and again, until all are."""
    clock = asyncio.get_running_loop().time
    begin, sent = clock(), 0
    while sent < messages:
        if rate:
            await asyncio.sleep(max(begin + (sent + 1) / rate - clock(), _TICK))
            batch = min(int((clock() - begin) * rate), messages) - sent
        else:
            await asyncio.sleep(0)
            batch = min(_BATCH, messages - sent)
        yield batch
        sent += batch


def message(number: int) -> bytes:
    """The content of a message."""
    return f"order {number}".encode()
