"""The engines: each has start, stop, snapshot() -> Profile and stats()."""
