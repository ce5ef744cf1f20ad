"""What this package raises: one base class and a few leaves."""

from __future__ import annotations


class PyprofAgentError(Exception):
    """Base class of every error that pyprof-agent raises on purpose."""


class ConfigError(PyprofAgentError, ValueError):
    """An option or an environment variable has a value that cannot be used."""


class ProfileError(PyprofAgentError, ValueError):
    """A profile breaks a rule of the pprof format, or two profiles do not go together."""


class UnknownProfileError(PyprofAgentError, LookupError):
    """No profile of that name exists, or its source is switched off."""


class CaptureError(PyprofAgentError, RuntimeError):
    """A profile could not be collected."""


class NotRunningError(CaptureError):
    """The agent has not been started, or has been stopped."""


class ServeError(PyprofAgentError, OSError):
    """The side-port server could not be started."""


class GateError(PyprofAgentError, RuntimeError):
    """A gate could not look at a service, or was asked for what cannot be."""


class SinkError(PyprofAgentError, OSError):
    """A profile could not be written where it was to be kept."""
