"""Profile one block of code and write a file, without a server.

python examples/record_block.py slow.pb.gz
go tool pprof -top slow.pb.gz
"""

from __future__ import annotations

import sys

from pyprof_agent import record


def triangle(size: int) -> int:
    """Something slow."""
    return sum(column for row in range(size) for column in range(row))


def main() -> None:
    """Record a block."""
    path = sys.argv[1] if len(sys.argv) > 1 else "slow.pb.gz"
    with record(path) as recording:
        triangle(5000)
    seconds = recording.profile.total("cpu") / 1e9
    print(f"{seconds:.2f} s of CPU in {path}")


if __name__ == "__main__":
    main()
