"""The applications that are compared with Go, one for each way of mounting that rows are about."""

from __future__ import annotations

from starlette.applications import Starlette
from starlette.routing import Mount, Route

from pyprof_agent import Agent, Config, make_asgi_app, make_fgprof_app
from pyprof_agent.access import Basic

agent = Agent(Config(heap_sample_bytes=4096, stack_hz=100))
agent.start()
kept = [bytes(100_000) for _ in range(10)]

app = Starlette(
    routes=[
        Mount("/debug/pprof", make_asgi_app(agent, max_captures=1000)),
        Route("/debug/fgprof", make_fgprof_app(agent)),
        Mount("/open/debug/pprof", make_asgi_app(agent, cmdline=True)),
        Mount("/single/debug/pprof", make_asgi_app(agent, max_captures=1)),
        Mount("/closed/debug/pprof", make_asgi_app(agent, access=Basic("sre", "secret"))),
        Mount("/idle/debug/pprof", make_asgi_app(Agent(Config()))),
    ]
)
