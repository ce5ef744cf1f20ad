"""Where profiles go that nobody has asked for over HTTP."""
