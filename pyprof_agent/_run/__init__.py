"""The folder that `pyprof-agent run` puts first on PYTHONPATH; see `pyprof_agent.run`."""
