"""What the programs of the story have in common: their options, and the agent in them."""

from __future__ import annotations

import argparse
import asyncio
from collections.abc import Awaitable, Callable

from measuring import start_agent

from pyprof_agent import Agent, serve, stop

Scenario = Callable[[Agent, int, float], Awaitable[None]]
"""Given the agent, the number of messages and the rate."""


def run(description: str, scenario: Scenario) -> None:
    """Run a scenario with the agent started, as the command line says."""
    parser = argparse.ArgumentParser(description=description)
    parser.add_argument("--messages", type=int, default=6000, help="default: 6000")
    parser.add_argument(
        "--rate", type=float, default=0, help="messages a second; default: 0, as fast as it goes"
    )
    parser.add_argument("--debug-port", type=int, help="serve profiles there meanwhile")
    options = parser.parse_args()
    server = None
    if options.debug_port is not None:
        server = serve(options.debug_port)
        stop()  # its port goes on; sampled as closely as the messages are, its imports are a crowd
    agent = start_agent(options.messages)
    try:
        asyncio.run(_main(scenario, agent, options.messages, options.rate))
    finally:
        if server is not None:
            server.stop()
        stop()


async def _main(scenario: Scenario, agent: Agent, messages: int, rate: float) -> None:
    await scenario(agent, messages, rate)
