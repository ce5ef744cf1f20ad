"""A channel with a leak: for every message sent after its receiver is gone it keeps 128 bytes.

The envelope of a message waits for the receiver's acknowledgement. When the receiver goes
away no acknowledgement comes any more, and nobody clears the envelopes.
"""

from __future__ import annotations

import struct
import time
from collections import deque
from collections.abc import Callable

Receiver = Callable[[bytes], None]

ENVELOPE = struct.Struct("<QQ79s")
"""Sequence number, time, topic: 95 bytes of content, a bytes object of 128."""


class Channel:
    """Delivers messages to one receiver, and leaks once there is none."""

    def __init__(self, topic: str) -> None:
        self._topic = topic.encode()
        self._receiver: Receiver | None = None
        self._unacknowledged: deque[bytes] = deque()
        self.sent = 0

    def attach(self, receiver: Receiver) -> None:
        """Deliver to `receiver` from now on."""
        self._receiver = receiver

    def detach(self) -> None:
        """The receiver is gone."""
        self._receiver = None

    def send(self, message: bytes) -> None:
        """Send a message; with no receiver it is dropped, but not its envelope."""
        self.sent += 1
        envelope = ENVELOPE.pack(self.sent, time.time_ns(), self._topic)
        self._unacknowledged.append(envelope)
        if self._receiver is not None:
            self._receiver(message)
            self._unacknowledged.pop()
