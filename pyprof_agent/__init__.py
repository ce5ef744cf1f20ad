"""Continuous profiling for Python services, in the format and on the URLs of Go's pprof.

    from pyprof_agent import make_asgi_app, start
    start()
    app.mount("/debug/pprof", make_asgi_app())

Importing starts nothing.
"""

from pyprof_agent.agent import Agent
from pyprof_agent.config import Config
from pyprof_agent.errors import (
    CaptureError,
    ConfigError,
    GateError,
    NotRunningError,
    ProfileError,
    PyprofAgentError,
    ServeError,
    SinkError,
    UnknownProfileError,
)
from pyprof_agent.leaks.report import LeakReport
from pyprof_agent.process import (
    count,
    count_requests,
    current_agent,
    make_asgi_app,
    make_fgprof_app,
    record,
    serve,
    start,
    stop,
)
from pyprof_agent.profile import Frame, Label, Profile, Sample, ValueType
from pyprof_agent.windows import Window

__all__ = [
    "Agent",
    "CaptureError",
    "Config",
    "ConfigError",
    "Frame",
    "GateError",
    "Label",
    "LeakReport",
    "NotRunningError",
    "Profile",
    "ProfileError",
    "PyprofAgentError",
    "Sample",
    "ServeError",
    "SinkError",
    "UnknownProfileError",
    "ValueType",
    "Window",
    "count",
    "count_requests",
    "current_agent",
    "make_asgi_app",
    "make_fgprof_app",
    "record",
    "serve",
    "start",
    "stop",
]
