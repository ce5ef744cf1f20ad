"""The gate: `pyprof-agent gate URL` beside a load test, which it passes or fails by growth."""
