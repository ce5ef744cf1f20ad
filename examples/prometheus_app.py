"""Metrics for Prometheus beside the debug endpoints, in a FastAPI application.

uvicorn --app-dir examples prometheus_app:app
curl localhost:8000/metrics
"""

from __future__ import annotations

from fastapi import FastAPI, Response
from prometheus_client import CONTENT_TYPE_LATEST, REGISTRY, generate_latest

import pyprof_agent
from pyprof_agent.metrics import Metrics

app = FastAPI()
app.add_middleware(pyprof_agent.count_requests)


@app.get("/")
async def hello() -> dict[str, str]:
    """The service's own route."""
    return {"hello": "world"}


@app.get("/metrics")
def metrics() -> Response:
    """The service's metrics and those of the agent."""
    return Response(generate_latest(), media_type=CONTENT_TYPE_LATEST)


pyprof_agent.start()
REGISTRY.register(Metrics())
app.mount("/debug/pprof", pyprof_agent.make_asgi_app())
