"""The same with a bounded queue: a consumer that goes away is noticed, and nothing grows.

python examples/story/cured.py --messages 6000 --rate 100
"""

from __future__ import annotations

import asyncio

from bounded_channel import BoundedChannel, NobodyReceivesError
from measuring import growth_during
from producers import PRODUCERS, message, produce
from program import run

from pyprof_agent import Agent

MOST = 1000
PATIENCE = 0.005
"""A service would wait for seconds, and then tell its caller; this program has not the time."""


async def cured(agent: Agent, messages: int, rate: float) -> None:
    """Send messages while there is a consumer, and as many once it has gone away."""
    channel = BoundedChannel("orders", MOST, PATIENCE)
    refused = 0

    async def send(batch: int) -> None:
        nonlocal refused
        for _ in range(batch):
            try:
                await channel.send(message(channel.sent))
            except NobodyReceivesError:
                refused += 1  # a service would answer "try again later", and raise an alarm

    async def consume() -> None:
        while True:
            await channel.receive()

    consumer = asyncio.create_task(consume())
    await produce(messages, 0, send)  # what is made once is there from now on
    received = await growth_during(agent, produce(messages, 0, send))
    print(received.report("with a consumer"))
    consumer.cancel()
    filled = await growth_during(agent, produce(MOST + PRODUCERS, 0, send))
    print(filled.report("after it has gone away, until the queue is full"))
    before = refused
    full = await growth_during(agent, produce(messages, rate, send))
    print(full.report("from then on"))
    print(f"refused: {refused - before:,} of {full.messages:,}; waiting: {channel.waiting:,}")


if __name__ == "__main__":
    run("The cure of a leak of 128 bytes a message.", cured)
