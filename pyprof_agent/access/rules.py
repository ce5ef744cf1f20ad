"""Rules as values: what one answers, how they are joined, and a function as a rule."""

from __future__ import annotations

import inspect
import logging
from collections.abc import Awaitable, Callable, Iterable
from dataclasses import dataclass
from typing import Any, ClassVar, TypeAlias

from pyprof_agent.access.request import Scope
from pyprof_agent.errors import ConfigError

_LOG = logging.getLogger("pyprof_agent")

Decision: TypeAlias = Callable[[dict[str, Any]], "bool | Awaitable[bool]"]
"""A function of one's own: is given the ASGI scope; `True` lets in, all else refuses."""


@dataclass(frozen=True, slots=True)
class Refusal:
    """Why a request is not let in.

    status: 401 where a credential would help, 403 where nothing does
    message: for the client
    challenges: values of WWW-Authenticate
    """

    status: int
    message: str
    challenges: tuple[str, ...] = ()


class Rule:
    """Who may come in. `a & b` asks for both, `a | b` for one of them."""

    __slots__ = ()

    # What a rule looks at: 0 addresses, 1 credentials, 2 functions. Of several that are asked
    # for, addresses come first: a stranger is never told whether a credential is right.
    order: ClassVar[int] = 0

    async def check(self, scope: Scope) -> Refusal | None:
        """None lets the request in.

        scope: of an ASGI connection over HTTP
        """
        raise NotImplementedError

    def __and__(self, other: Rule | Decision) -> Rule:
        return All((self, as_rule(other)))

    def __rand__(self, other: Decision) -> Rule:
        return All((as_rule(other), self))

    def __or__(self, other: Rule | Decision) -> Rule:
        return AnyOf((self, as_rule(other)))

    def __ror__(self, other: Decision) -> Rule:
        return AnyOf((as_rule(other), self))


@dataclass(frozen=True, slots=True)
class Everybody(Rule):
    """No rule: for where TLS has asked for a certificate before."""

    async def check(self, scope: Scope) -> Refusal | None:
        return None


@dataclass(frozen=True, slots=True)
class Custom(Rule):
    """Whom a function of one's own lets in. What it raises refuses, and is logged.

    function: sync or async; given a copy of the ASGI scope. It runs in the event loop.
    """

    function: Decision
    order: ClassVar[int] = 2

    async def check(self, scope: Scope) -> Refusal | None:
        try:
            answer = self.function(dict(scope))
            if inspect.isawaitable(answer):
                answer = await answer
        except Exception:
            _LOG.exception("the access function %s failed, so the request is refused", self._name)
            return Refusal(403, "access could not be decided; the service's log says why")
        if answer is True:
            return None
        if answer is not False:
            _LOG.error(
                "the access function %s returned a %s, so the request is refused; "
                "return True or False",
                self._name,
                type(answer).__name__,
            )
        return Refusal(403, "pprof endpoints do not answer this client")

    @property
    def _name(self) -> str:
        return getattr(self.function, "__qualname__", type(self.function).__qualname__)


@dataclass(frozen=True, slots=True)
class All(Rule):
    """All of these rules: addresses are judged first, then credentials, then functions."""

    rules: tuple[Rule, ...]

    @property
    def order(self) -> int:  # type: ignore[override]
        return max(rule.order for rule in self.rules)

    async def check(self, scope: Scope) -> Refusal | None:
        for rule in sorted(_flat(All, self.rules), key=lambda rule: rule.order):
            refusal = await rule.check(scope)
            if refusal is not None:
                return refusal
        return None


@dataclass(frozen=True, slots=True)
class AnyOf(Rule):
    """One of these rules is enough."""

    rules: tuple[Rule, ...]

    @property
    def order(self) -> int:  # type: ignore[override]
        return max(rule.order for rule in self.rules)

    async def check(self, scope: Scope) -> Refusal | None:
        refusals = []
        for rule in sorted(_flat(AnyOf, self.rules), key=lambda rule: rule.order):
            refusal = await rule.check(scope)
            if refusal is None:
                return None
            refusals.append(refusal)
        return Refusal(
            401 if any(refusal.status == 401 for refusal in refusals) else 403,
            "; or: ".join(dict.fromkeys(refusal.message for refusal in refusals)),
            tuple(dict.fromkeys(c for refusal in refusals for c in refusal.challenges)),
        )


def as_rule(value: Rule | Decision) -> Rule:
    """A rule as it is, a function as a rule.

    Raises ConfigError for all else, without the value in it: it may be a secret.
    """
    if isinstance(value, Rule):
        return value
    if not isinstance(value, type) and callable(value):
        return Custom(value)
    what = f"the class {value.__name__}" if isinstance(value, type) else type(value).__name__
    raise ConfigError(
        f"access is of no use as {what}; use a rule of pyprof_agent.access, as Token('...') or "
        "Networks('10.0.0.0/8'), or a function that is given the ASGI scope"
    )


def _flat(kind: type[All] | type[AnyOf], rules: Iterable[Rule]) -> Iterable[Rule]:
    for rule in rules:
        if isinstance(rule, kind):
            yield from _flat(kind, rule.rules)
        else:
            yield rule
