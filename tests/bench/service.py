"""The service that is measured: orders come in as JSON, are priced, and go out as JSON."""

from __future__ import annotations

import json
from collections import OrderedDict
from dataclasses import asdict, dataclass

from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import JSONResponse, PlainTextResponse
from starlette.routing import Route

KEPT = 500
"""Orders that stay in memory, the last ones."""


@dataclass
class Line:
    """A line of an order, priced."""

    sku: str
    count: int
    price: float
    total: float


@dataclass
class Order:
    """An order, priced."""

    number: int
    customer: str
    lines: list[Line]
    total: float
    by_group: dict[str, float]


def priced(body: bytes) -> Order:
    """The order that a request asks for."""
    wanted = json.loads(body)
    lines = [
        Line(line["sku"], line["count"], line["price"], round(line["count"] * line["price"], 2))
        for line in wanted["lines"]
    ]
    by_group: dict[str, float] = {}
    for line in sorted(lines, key=lambda line: line.sku):
        group = line.sku.partition("-")[0]
        by_group[group] = by_group.get(group, 0) + line.total
    return Order(
        wanted["number"],
        f"{wanted['customer']['first']} {wanted['customer']['last']}",
        lines,
        sum(by_group.values()),
        by_group,
    )


def request_body(lines: int = 40) -> bytes:
    """An order of this many lines, as a client sends it."""
    return json.dumps(
        {
            "number": 1,
            "customer": {"first": "Ada", "last": "Lovelace", "address": ["12 St James's Sq"]},
            "lines": [
                {"sku": f"group{line % 7}-{line}", "count": line % 5 + 1, "price": line + 0.99}
                for line in range(lines)
            ],
        }
    ).encode()


def make_app() -> Starlette:
    """The application."""
    kept: OrderedDict[int, Order] = OrderedDict()

    async def order(request: Request) -> JSONResponse:
        result = priced(await request.body())
        kept[id(result)] = result
        if len(kept) > KEPT:
            kept.popitem(last=False)
        return JSONResponse(asdict(result))

    async def ready(_: Request) -> PlainTextResponse:
        return PlainTextResponse("ready")

    return Starlette(routes=[Route("/orders", order, methods=["POST"]), Route("/ready", ready)])
