"""A heap profile as large as the heap engine's table lets one be, for figures and limits."""

from __future__ import annotations

import random

from pyprof_agent.profile import Frame, Profile, Sample
from tests.support import heap_profile


def big_profile(stacks: int = 20_000, depth: int = 30) -> Profile:
    """Stacks of a service: a common trunk, branches that share their beginnings, skewed sizes."""
    rng = random.Random(1)
    frames = [
        Frame(
            f"shop.room{number % 60}.module{number % 300}.Class{number % 900}.method_{number}",
            f"/srv/shop/room{number % 60}/module{number % 300}.py",
            number % 1000 + 1,
            number % 1000 + 1 + line,
        )
        for number in range(4000)
        for line in (3, 7)
    ]
    trunk = tuple(frames[:8])
    bodies: list[tuple[Frame, ...]] = [trunk]
    samples: dict[tuple[Frame, ...], tuple[float, ...]] = {}
    while len(samples) < stacks:
        body = bodies[int(len(bodies) * rng.random() ** 2)]
        grown = body + tuple(rng.choice(frames) for _ in range(rng.randint(1, 6)))
        if len(grown) < depth + rng.randint(-10, 10):
            bodies.append(grown)
        size = int(rng.paretovariate(1.1) * 512) & 0xFFFFFFFF
        objects = rng.randint(1, 50)
        samples[grown[::-1]] = (objects * 3, size * 3, objects, size)
    return heap_profile(*(Sample(stack, values) for stack, values in samples.items()))
