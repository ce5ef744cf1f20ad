"""The queues and channels that are compared: each with a producer and a consumer as it wants them.

A message is 64 bytes with the time at which it was sent.
"""

from __future__ import annotations

import asyncio
import contextlib
import queue
import struct
import sys
import threading
import time
from collections import deque
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Protocol

from bounded_channel import BoundedChannel, NobodyReceivesError

sys.path.append(str(Path(__file__).resolve().parent.parent))
from leaky_channel import Channel

MESSAGE = struct.Struct("<Q56x")
"""64 bytes of content, a bytes object of 97."""

POLL = 0.001
"""Seconds between two looks into a deque, which cannot be waited for."""

PATIENCE = 0.01
"""Seconds that the senders of the bounded queue wait."""

PRODUCERS = 200


def message() -> bytes:
    """A message that is sent now."""
    return MESSAGE.pack(time.perf_counter_ns())


class Ages:
    """Receives messages and keeps how old each was, in seconds."""

    def __init__(self) -> None:
        self.seconds: list[float] = []

    def receive(self, content: bytes) -> None:
        """Take a message."""
        (sent,) = MESSAGE.unpack(content)
        self.seconds.append((time.perf_counter_ns() - sent) / 1e9)


class Subject(Protocol):
    """A queue or channel under test.

    holds: whether messages wait in it for their consumer
    """

    holds: bool

    def pump(self, messages: int, gap: float) -> list[float]:
        """Send messages to a consumer, so many seconds apart; how old each was when it came."""

    def pile(self, messages: int) -> None:
        """Send messages that nobody receives."""


class BetweenThreads:
    """A queue with a producer in one thread and a consumer in another."""

    holds = True

    def __init__(self, put: Callable[[bytes], None], get: Callable[[], bytes]) -> None:
        self._put, self._get = put, get

    def pump(self, messages: int, gap: float) -> list[float]:
        """Two threads."""
        ages = Ages()

        def consume() -> None:
            for _ in range(messages):
                ages.receive(self._get())

        consumer = threading.Thread(target=consume)
        consumer.start()
        for _ in range(messages):
            self._put(message())
            if gap:
                time.sleep(gap)
        consumer.join()
        return ages.seconds

    def pile(self, messages: int) -> None:
        """Only the producer."""
        for _ in range(messages):
            self._put(message())


class BetweenTasks:
    """A queue with a producer in one asyncio task and a consumer in another."""

    holds = True

    def __init__(
        self, send: Callable[[bytes], Awaitable[None]], receive: Callable[[], Awaitable[bytes]]
    ) -> None:
        self._send, self._receive = send, receive

    def pump(self, messages: int, gap: float) -> list[float]:
        """Two tasks of one loop."""
        ages = Ages()

        async def consume() -> None:
            for _ in range(messages):
                ages.receive(await self._receive())

        async def both() -> None:
            consumer = asyncio.create_task(consume())
            for _ in range(messages):
                await self._send(message())
                if gap:
                    await asyncio.sleep(gap)
            await consumer

        asyncio.run(both())
        return ages.seconds

    def pile(self, messages: int) -> None:
        """Only producers, who give up a message that is refused; many, as each waits for that."""

        async def produce(share: int) -> None:
            for _ in range(share):
                with contextlib.suppress(NobodyReceivesError):
                    await self._send(message())

        async def all_producers() -> None:
            shares = [len(range(place, messages, PRODUCERS)) for place in range(PRODUCERS)]
            await asyncio.gather(*map(produce, shares))

        asyncio.run(all_producers())


class Calls:
    """The channel that leaks: it calls its receiver, in the sender's thread."""

    holds = False

    def __init__(self) -> None:
        self._channel = Channel("orders")

    def pump(self, messages: int, gap: float) -> list[float]:
        """The receiver is there."""
        ages = Ages()
        self._channel.attach(ages.receive)
        for _ in range(messages):
            self._channel.send(message())
            if gap:
                time.sleep(gap)
        return ages.seconds

    def pile(self, messages: int) -> None:
        """It is gone."""
        self._channel.detach()
        for _ in range(messages):
            self._channel.send(message())


def simple_queue(most: int) -> Subject:
    """A SimpleQueue."""
    messages: queue.SimpleQueue[bytes] = queue.SimpleQueue()
    return BetweenThreads(messages.put, messages.get)


def thread_queue(most: int) -> Subject:
    """A Queue of threads, without a bound."""
    messages: queue.Queue[bytes] = queue.Queue()
    return BetweenThreads(messages.put, messages.get)


def polled_deque(most: int) -> Subject:
    """A deque; its consumer has to look into it again and again."""
    messages: deque[bytes] = deque()

    def get() -> bytes:
        while not messages:
            time.sleep(POLL)
        return messages.popleft()

    return BetweenThreads(messages.append, get)


def task_queue(most: int) -> Subject:
    """A Queue of asyncio, without a bound."""
    messages: asyncio.Queue[bytes] = asyncio.Queue()
    return BetweenTasks(messages.put, messages.get)


def leaking_channel(most: int) -> Subject:
    """The channel of the story."""
    return Calls()


def bounded_channel(most: int) -> Subject:
    """Its cure."""
    channel = BoundedChannel("orders", most, PATIENCE)
    return BetweenTasks(channel.send, channel.receive)


SUBJECTS: dict[str, Callable[[int], Subject]] = {
    "queue.SimpleQueue": simple_queue,
    "queue.Queue": thread_queue,
    "asyncio.Queue": task_queue,
    "collections.deque": polled_deque,
    "leaking channel": leaking_channel,
    "bounded asyncio.Queue": bounded_channel,
}
"""By their names in the table; each is made with the most messages that may wait, if bounded."""
