"""How many bytes a message the heap has grown by, and in which lines: two heap profiles compared.

Nothing but the agent's public names is used, so that this can be copied.
"""

from __future__ import annotations

import linecache
import os
import re
from collections import Counter
from collections.abc import Awaitable
from dataclasses import dataclass

from pyprof_agent import Agent, Frame, Profile, start

LEAK = 128
"""Bytes a message that are looked for."""

SAMPLES = 10_000

_OWN = ("pyprof_agent.", "<pyprof-agent>")
_WORK = re.compile(r"work done so far: (\d+)")


def start_agent(messages: int) -> Agent:
    """Start the agent so that a leak of 128 bytes in so many messages is known to 1 %.

    With a sample every R bytes on average, B bytes of small blocks are known with a standard error
    of about sqrt(R * B) bytes, which is sqrt(R / B) of them. R = B / 10,000 makes that 1 %, so that
    an error of 5 % would be one of five standard errors.
    """
    return start(heap_sample_bytes=max(1, LEAK * messages // SAMPLES))


@dataclass(frozen=True, slots=True)
class Growth:
    """What a heap has grown by while messages were sent.

    lines: bytes by the line that allocated them, less what the agent itself has
    messages: as the program counted them, with `agent.count()`
    seconds: what they took
    """

    lines: Counter[Frame]
    messages: int
    seconds: float

    @property
    def per_message(self) -> float:
        """Bytes a message, in all lines."""
        return self.lines.total() / self.messages

    def report(self, title: str) -> str:
        """The growth in words, with each line that keeps a byte a message or more."""
        rows = [
            f"{title}: {self.messages:,} messages, {self.messages / self.seconds:,.0f} a second, "
            f"{self.per_message:z.1f} bytes a message kept"
        ]
        for line, grown in self.lines.most_common():
            if grown < self.messages:
                break
            source = linecache.getline(line.filename, line.line).strip()
            place = f"{os.path.relpath(line.filename)}:{line.line}"
            rows.append(f"  {grown / self.messages:5.1f}  {line.function} ({place})")
            rows.append(f"         {source}")
        return "\n".join(rows)


def growth(before: Profile, after: Profile) -> Growth:
    """What has come between two heap profiles of one process."""
    lines = held(after)
    lines.subtract(held(before))
    seconds = (after.time_nanos - before.time_nanos) / 1e9
    return Growth(lines, messages_done(after) - messages_done(before), seconds)


def held(profile: Profile) -> Counter[Frame]:
    """Bytes in use by the line that allocated them, without those of the agent itself."""
    space = profile.column("inuse_space")
    lines: Counter[Frame] = Counter()
    for stack, values, _ in profile.samples:
        if not any(frame.function.startswith(_OWN) for frame in stack):
            lines[stack[0]] += int(values[space])
    return lines


def messages_done(profile: Profile) -> int:
    """How much work a heap profile tells; the program says it with `agent.count()`."""
    told = filter(None, map(_WORK.fullmatch, profile.comments))
    return next((int(found[1]) for found in told), 0)


async def growth_during(agent: Agent, work: Awaitable[None]) -> Growth:
    """What the heap has grown by while something was done."""
    before = agent.capture("heap")
    await work
    return growth(before, agent.capture("heap"))
