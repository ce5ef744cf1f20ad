"""Three lines in a Starlette application.

uvicorn --app-dir examples starlette_app:app
curl -o heap.pb.gz localhost:8000/debug/pprof/heap
"""

from __future__ import annotations

from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import PlainTextResponse
from starlette.routing import Route

from pyprof_agent import make_asgi_app, start


async def hello(request: Request) -> PlainTextResponse:
    """The service's own route."""
    return PlainTextResponse("hello\n")


app = Starlette(routes=[Route("/", hello)])

start()
app.mount("/debug/pprof", make_asgi_app())
