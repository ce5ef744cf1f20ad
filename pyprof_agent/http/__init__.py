"""The ASGI application and its side-port server; it knows profiles, never their sources."""
