"""Leaks found by growth: how fast memory grows, how sure that is, and which line it is."""
