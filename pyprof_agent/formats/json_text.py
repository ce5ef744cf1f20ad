"""JSON of long lists, written so that other threads have the GIL in between."""

from __future__ import annotations

import json
from collections.abc import Sequence

_AT_ONCE = 1000
"""Values written between two chances for other threads to have the GIL: 1 ms where they are
stacks, and less where they are numbers."""


def compact(value: object) -> str:
    """The value as JSON in ASCII, without spaces."""
    return json.dumps(value, separators=(",", ":"))


def array(values: Sequence[object]) -> str:
    """The list as JSON in ASCII, without spaces."""
    batches = [
        compact(values[start : start + _AT_ONCE])[1:-1] for start in range(0, len(values), _AT_ONCE)
    ]
    return f"[{','.join(batches)}]"
