"""A Starlette service with the agent mounted, and a leak in it to find.

python examples/leaky_service.py --port 8000
curl -X POST 'localhost:8000/messages?count=1000'
curl -X DELETE localhost:8000/receiver          # from now on it leaks
go tool pprof -http=: http://localhost:8000/debug/pprof/heap
"""

from __future__ import annotations

import argparse
import hashlib

import uvicorn
from leaky_channel import Channel
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Mount, Route

from pyprof_agent import count, make_asgi_app, start


class Orders:
    """Receives messages and does some work for each."""

    def __init__(self) -> None:
        self.digest = hashlib.sha256()

    def receive(self, message: bytes) -> None:
        """Digest a message."""
        self.digest.update(message)


channel = Channel("orders")
channel.attach(Orders().receive)


async def send_messages(request: Request) -> Response:
    """Send `count` messages."""
    messages = int(request.query_params.get("count", "1"))
    for number in range(messages):
        channel.send(price(number))
    count(messages)
    return JSONResponse({"sent": channel.sent})


async def detach_receiver(request: Request) -> Response:
    """Let the receiver go away."""
    channel.detach()
    return JSONResponse({"receiver": None})


async def ping(request: Request) -> Response:
    """The service's own route."""
    return JSONResponse({"ok": True})


def price(number: int) -> bytes:
    """Some work: the content of an order."""
    total = sum(item * 7 % 13 for item in range(number % 50))
    return f"order {number}: {total}".encode()


start()
app = Starlette(
    routes=[
        Route("/ping", ping),
        Route("/messages", send_messages, methods=["POST"]),
        Route("/receiver", detach_receiver, methods=["DELETE"]),
        Mount("/debug/pprof", make_asgi_app()),
    ]
)


def main() -> None:
    """Serve on loopback."""
    parser = argparse.ArgumentParser(description="A service with a leak.")
    parser.add_argument("--port", type=int, default=8000)
    parser.add_argument("--catalogue", type=int, default=0, help="MiB that are always in memory")
    options = parser.parse_args()
    app.state.catalogue = [bytes(1000) for _ in range(options.catalogue * 1000)]
    uvicorn.run(app, host="127.0.0.1", port=options.port, log_level="warning")


if __name__ == "__main__":
    main()
