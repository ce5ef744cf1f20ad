"""JSON of long lists, written so that other threads have the GIL in between."""

from __future__ import annotations

import json
from collections.abc import Sequence

from pyprof_agent.batches import batches


def compact(value: object) -> str:
    """The value as JSON in ASCII, without spaces."""
    return json.dumps(value, separators=(",", ":"))


def array(values: Sequence[object]) -> str:
    """The list as JSON in ASCII, without spaces."""
    parts = [compact(values[start:stop])[1:-1] for start, stop in batches(0, len(values))]
    return f"[{','.join(parts)}]"
