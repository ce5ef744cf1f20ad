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


def snapshot() -> Profile:
    """The `block` and the `mutex` profile."""
    contentions = ValueType("contentions", "count")
    return Profile(
        sample_types=(contentions, ValueType("delay", "nanoseconds")),
        samples=(),
        period_type=contentions,
        period=1,
        time_nanos=time.time_ns(),
        comments=(COMMENT,),
    )
