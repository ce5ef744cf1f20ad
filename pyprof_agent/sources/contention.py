"""What is known of waiting for locks, which is nothing: Python tells nobody of it.

Scrapers made for Go ask for `block` and `mutex` by default, and log an error for each that is
missing. In Go these are empty too, unless a program asks for them.
"""

from __future__ import annotations

import time

from pyprof_agent.profile import Profile, ValueType

COMMENT = (
    "always empty: waiting for locks is not sampled; the wall profile shows where threads wait"
)


SAMPLE_TYPES = (ValueType("contentions", "count"), ValueType("delay", "nanoseconds"))


def snapshot() -> Profile:
    """The `block` and the `mutex` profile."""
    return Profile(
        sample_types=SAMPLE_TYPES,
        samples=(),
        period_type=SAMPLE_TYPES[0],
        period=1,
        time_nanos=time.time_ns(),
        comments=(COMMENT,),
    )
