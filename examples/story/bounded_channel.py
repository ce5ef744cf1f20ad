"""The cure: a channel with a bounded queue, whose senders wait, and are told if nobody receives."""

from __future__ import annotations

import asyncio
import struct
import time

ENVELOPE = struct.Struct("<QQ79s")
"""Sequence number, time, topic, as in the channel that leaks."""


class NobodyReceivesError(Exception):
    """The queue was full, and stayed full for as long as the sender was ready to wait."""


class BoundedChannel:
    """Delivers messages to whoever receives; what waits for that is bounded.

    most: messages that may wait
    patience: seconds that a sender waits for a place
    """

    def __init__(self, topic: str, most: int, patience: float) -> None:
        self._topic = topic.encode()
        self._patience = patience
        # A message waits in one piece with its envelope, and goes with it. There is no second
        # container, which somebody would have to remember to clear.
        self._queue: asyncio.Queue[bytes] = asyncio.Queue(most)
        self.sent = 0

    @property
    def waiting(self) -> int:
        """Messages that nobody has received so far."""
        return self._queue.qsize()

    async def send(self, message: bytes) -> None:
        """Send a message; waits while the queue is full.

        Raises NobodyReceivesError, and keeps nothing of the message, if no place came free.
        """
        piece = ENVELOPE.pack(self.sent + 1, time.time_ns(), self._topic) + message
        if self._queue.full():
            await self._wait_to_put(piece)
        else:
            self._queue.put_nowait(piece)
        self.sent += 1

    async def _wait_to_put(self, piece: bytes) -> None:
        try:
            async with asyncio.timeout(self._patience):
                await self._queue.put(piece)
        except TimeoutError:
            raise NobodyReceivesError(
                f"{self.waiting} messages wait, and none was received in {self._patience} s"
            ) from None

    async def receive(self) -> bytes:
        """The next message; waits for one."""
        piece = await self._queue.get()
        return piece[ENVELOPE.size :]
