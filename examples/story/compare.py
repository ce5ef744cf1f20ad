"""Queues and channels beside each other: memory, as the agent measures it, and speed; as Markdown.

python examples/story/compare.py            # a minute
python examples/story/compare.py --quick    # some seconds, coarse
"""

from __future__ import annotations

import argparse
import gc
import json
import statistics
import subprocess
import sys
import time
from dataclasses import asdict, dataclass

from measuring import growth, start_agent
from subjects import SUBJECTS

from pyprof_agent import Agent

MOST = 1000
"""Messages that may wait in what is bounded, once the consumer is gone."""

GAP = 0.001
"""Seconds between two messages whose age is looked at: a consumer that has nothing else to do."""


@dataclass(frozen=True, slots=True)
class Effort:
    """How much is measured.

    messages: for memory and speed
    aged: messages whose age is looked at
    rounds: for speed, of which the median counts
    """

    messages: int
    aged: int
    rounds: int


FULL = Effort(messages=100_000, aged=5000, rounds=5)
QUICK = Effort(messages=10_000, aged=100, rounds=1)


@dataclass(frozen=True, slots=True)
class Row:
    """What was measured of one of them.

    waiting: bytes a message that waits; None where none can
    gone: bytes a message kept, sent after the consumer has gone away
    rate: messages a second
    p99: seconds from sending to receiving that 99 of 100 messages do not exceed
    """

    waiting: float | None
    gone: float
    rate: float
    p99: float


def main() -> None:
    """Measure each in a process of its own, and print the table."""
    parser = argparse.ArgumentParser(description="Compare queues and channels.")
    parser.add_argument("--quick", action="store_true", help="a coarse look")
    parser.add_argument("--one", choices=SUBJECTS, help="only this, in this process, as JSON")
    options = parser.parse_args()
    if options.one:
        print(json.dumps(asdict(measure(options.one, QUICK if options.quick else FULL))))
        return
    print("| | bytes a message waiting | bytes a message, consumer gone | messages/s | p99 |")
    print("|---|---|---|---|---|")
    for name in SUBJECTS:
        command = [sys.executable, __file__, "--one", name, *["--quick"] * options.quick]
        result = subprocess.run(command, stdout=subprocess.PIPE, text=True, check=True)
        print(written(name, Row(**json.loads(result.stdout))), flush=True)


def written(name: str, row: Row) -> str:
    """A row of the table."""
    waiting = "none waits" if row.waiting is None else f"{row.waiting:z.1f}"
    return (
        f"| {name} | {waiting} | {row.gone:z.1f} | {row.rate:,.0f} | {row.p99 * 1e6:,.0f} \u00b5s |"
    )


def measure(name: str, effort: Effort) -> Row:
    """All of one of them. Speed comes first: no agent runs yet."""
    make, messages = SUBJECTS[name], effort.messages
    rates = []
    for _ in range(effort.rounds):
        subject = make(MOST)
        begin = time.perf_counter()
        subject.pump(messages, gap=0)
        rates.append(messages / (time.perf_counter() - begin))
    ages = make(MOST).pump(effort.aged, GAP)
    agent = start_agent(messages)
    waiting = kept(agent, name, messages, most=messages) if subject.holds else None
    gone = kept(agent, name, messages, most=MOST)
    return Row(waiting, gone, statistics.median(rates), statistics.quantiles(ages, n=100)[-1])


def kept(agent: Agent, name: str, messages: int, most: int) -> float:
    """Bytes for each message that nobody receives, where `most` may wait.

    Where fewer may wait than come, those that may are there before.
    """
    SUBJECTS[name](most).pile(messages)  # what is made once is there from now on
    subject = SUBJECTS[name](most)
    if most < messages:
        subject.pile(most)
    gc.collect()
    before = agent.capture("heap")
    subject.pile(messages)
    agent.count(messages)
    gc.collect()  # what waits for that is not kept
    return growth(before, agent.capture("heap")).per_message


if __name__ == "__main__":
    main()
