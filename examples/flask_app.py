"""A Flask application, with the endpoints on a port of their own.

python examples/flask_app.py
go tool pprof -top http://localhost:6060/debug/pprof/heap
"""

from __future__ import annotations

import argparse

from flask import Flask

import pyprof_agent

app = Flask(__name__)


@app.get("/")
def hello() -> str:
    """The service's own route."""
    return "hello\n"


def main() -> None:
    """Serve the application, and the endpoints beside it."""
    parser = argparse.ArgumentParser(description="A Flask application with the agent.")
    parser.add_argument("--port", type=int, default=8000)
    parser.add_argument("--debug-port", type=int, default=6060)
    options = parser.parse_args()
    server = pyprof_agent.serve(port=options.debug_port)
    print(f"profiles on {server.url}", flush=True)
    app.run(port=options.port)


if __name__ == "__main__":
    main()
