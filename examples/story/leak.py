"""The leak, as small as it gets: a consumer goes away, and its channel keeps 128 bytes a message.

python examples/story/leak.py --messages 6000 --rate 100
python examples/story/leak.py --messages 2000000 --rate 100000
"""

from __future__ import annotations

import sys
from pathlib import Path

from measuring import growth_during
from producers import message, produce
from program import run

from pyprof_agent import Agent

sys.path.append(str(Path(__file__).resolve().parent.parent))
from leaky_channel import Channel


class Consumer:
    """Counts what it is given."""

    def __init__(self) -> None:
        self.received = 0

    def receive(self, content: bytes) -> None:
        """Take a message."""
        self.received += 1


async def leak(agent: Agent, messages: int, rate: float) -> None:
    """Send messages while there is a consumer, and as many once it has gone away."""
    channel = Channel("orders")

    async def send(batch: int) -> None:
        for _ in range(batch):
            channel.send(message(channel.sent))

    channel.attach(Consumer().receive)
    await produce(messages, 0, send)  # what is made once is there from now on
    received = await growth_during(agent, produce(messages, 0, send))
    print(received.report("with a consumer"))
    channel.detach()
    dropped = await growth_during(agent, produce(messages, rate, send))
    print(dropped.report("after it has gone away"))


if __name__ == "__main__":
    run("A leak of 128 bytes a message.", leak)
