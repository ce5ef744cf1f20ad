"""Pure functions that turn a profile into bytes or text."""
