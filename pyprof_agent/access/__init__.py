"""Who may use the endpoints: rules, to be joined with `&` and `|`, and functions of one's own."""

from pyprof_agent.access.addresses import Loopback, Networks
from pyprof_agent.access.credentials import Basic, Token
from pyprof_agent.access.rules import Decision, Refusal, Rule

__all__ = ["Basic", "Decision", "Loopback", "Networks", "Refusal", "Rule", "Token"]
