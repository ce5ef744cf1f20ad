"""The rule that the environment asks for."""

from __future__ import annotations

from pyprof_agent.access.addresses import Loopback, Networks
from pyprof_agent.access.credentials import Basic, Token
from pyprof_agent.access.rules import All, AnyOf, Rule
from pyprof_agent.config import AccessSettings
from pyprof_agent.errors import ConfigError

LOOPBACK = Loopback()


def configured(settings: AccessSettings, otherwise: Rule = LOOPBACK) -> Rule:
    """The rule that the environment asks for: the networks, and one of the credentials.

    otherwise: the rule where it asks for nothing

    Raises ConfigError for a variable that cannot be used; a secret is not in it.
    """
    rules: list[Rule] = []
    credentials: list[Rule] = []
    try:
        name = "access_networks"
        if settings.access_networks is not None:
            texts = settings.access_networks.split(",")
            rules.append(Networks(*(text.strip() for text in texts)))
        name = "access_token"
        if settings.access_token is not None:
            credentials.append(Token(settings.access_token))
        name = "access_basic"
        if settings.access_basic is not None:
            user, colon, password = settings.access_basic.partition(":")
            if not colon:
                raise ConfigError("there is no colon in it; use USER:PASSWORD")
            credentials.append(Basic(user, password))
    except ConfigError as error:
        raise ConfigError(f"{settings.variable(name)} cannot be used: {error}") from None
    if credentials:
        rules.append(AnyOf(tuple(credentials)))
    return All(tuple(rules)) if rules else otherwise
