"""What one keeps of a leak: profiles before and after, what grew between, as table and flame graph.

python examples/story/leak.py --messages 1000000 --rate 20000 --debug-port 6061 &
python examples/story/capture.py http://127.0.0.1:6061 --seconds 20 --output story-profiles

Of any service with the agent in it; nothing is asked of it but its debug endpoints.
"""

from __future__ import annotations

import argparse
import subprocess
import sys
import urllib.request
from pathlib import Path


def main() -> None:
    """Write the files, and print the table."""
    parser = argparse.ArgumentParser(description="Capture how a service's heap grows.")
    parser.add_argument("url", metavar="URL", help="of the service")
    parser.add_argument("--seconds", type=int, default=20, help="default: 20")
    parser.add_argument("--output", type=Path, default=Path("story-profiles"), metavar="DIR")
    options = parser.parse_args()
    folder: Path = options.output
    folder.mkdir(parents=True, exist_ok=True)
    heap = f"{options.url.rstrip('/')}/debug/pprof/heap"
    before, after = folder / "before.pb.gz", folder / "after.pb.gz"
    # At its first profiles the agent learns the names of all that is alive, and that takes memory
    # which would be in the difference.
    fetch(heap)
    fetch(f"{heap}?seconds=1&format=html", wait=1)
    before.write_bytes(fetch(heap))
    # The service draws the picture itself, of what changes in a window; the two files around
    # it are of the same time, but for some milliseconds.
    picture = fetch(f"{heap}?seconds={options.seconds}&format=html", options.seconds)
    after.write_bytes(fetch(heap))
    (folder / "growth.html").write_bytes(picture)
    diff(before, after, "--output", folder / "growth.pb.gz")
    table = diff(before, after)
    (folder / "growth.txt").write_text(table)
    print(table, end="")


def fetch(url: str, wait: float = 0) -> bytes:
    """The answer to a GET that may take so many seconds, and a while."""
    with urllib.request.urlopen(url, timeout=wait + 30) as response:
        content: bytes = response.read()
        return content


def diff(before: Path, after: Path, *options: str | Path) -> str:
    """What `pyprof-agent diff` prints."""
    command = [sys.executable, "-m", "pyprof_agent", "diff", before, after, *options]
    return subprocess.run(command, stdout=subprocess.PIPE, text=True, check=True).stdout


if __name__ == "__main__":
    main()
