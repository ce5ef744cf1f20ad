"""Three lines in a FastAPI application.

uvicorn --app-dir examples fastapi_app:app
go tool pprof -top http://localhost:8000/debug/pprof/heap
"""

from __future__ import annotations

from fastapi import FastAPI

from pyprof_agent import make_asgi_app, start

app = FastAPI()


@app.get("/")
async def hello() -> dict[str, str]:
    """The service's own route."""
    return {"hello": "world"}


start()
app.mount("/debug/pprof", make_asgi_app())
