"""Installs the other profilers, each by itself: one that cannot be had does not stop the rest."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

PEERS = ("mprofile", "ddtrace", "pyroscope-io", "memray", "py-spy")


def failures_file() -> Path:
    """Where it is kept why a profiler could not be installed in this environment."""
    return Path(sys.prefix) / "not-installed.json"


def failures() -> dict[str, str]:
    """Why a profiler could not be installed, by its name on PyPI."""
    try:
        found: dict[str, str] = json.loads(failures_file().read_text())
    except FileNotFoundError:
        return {}
    return found


def pip_reason(output: str) -> str:
    """The line of pip's output that says why it failed."""
    lines = [line.strip() for line in output.splitlines() if line.strip()]
    errors = [line for line in lines if line.lower().startswith("error:")]
    return (errors or lines or ["pip failed"])[-1]


def main() -> None:
    """Install them, and write down what failed."""
    failed = {}
    for name in PEERS:
        result = subprocess.run(
            [
                sys.executable,
                "-m",
                "pip",
                "install",
                "--quiet",
                "--disable-pip-version-check",
                name,
            ],
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            check=False,
        )
        if result.returncode != 0:
            failed[name] = pip_reason(result.stdout)
            print(f"{name} could not be installed: {failed[name]}", file=sys.stderr)
    failures_file().write_text(json.dumps(failed))


if __name__ == "__main__":
    main()
