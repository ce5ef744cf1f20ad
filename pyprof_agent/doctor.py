"""`pyprof-agent doctor`: what the agent can do in this environment, and why not more."""

from __future__ import annotations

import platform
from collections.abc import Iterator

from pyprof_agent.agent import Agent
from pyprof_agent.config import Config


def examine() -> tuple[bool, tuple[str, ...]]:
    """Whether the heap engine would be the native one, and a report, a line each.

    Raises ConfigError for a wrong environment.
    """
    agent = Agent(Config.load({}))
    wanted = agent.config.heap and agent.config.heap_engine != "tracemalloc"
    return not (wanted and agent.fallbacks), tuple(_report(agent))


def _report(agent: Agent) -> Iterator[str]:
    python = f"{platform.python_implementation()} {platform.python_version()}"
    yield f"python: {python} on {platform.system()} {platform.machine()}"
    for room, engine in agent.engines.items():
        yield f"{room} engine: {engine}"
        if room in agent.fallbacks:
            yield f"  the native one cannot be used: {agent.fallbacks[room]}"
    if agent.engines["heap"] == "tracemalloc":
        yield "  tracemalloc makes code that allocates much 2 to 90 times slower: on a busy"
        yield "  service prefer PYPROF_AGENT_HEAP=0"
