"""Programs of others that fork in ways of their own, with the agent in them: `make others`."""
