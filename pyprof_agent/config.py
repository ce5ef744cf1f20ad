"""Options of the agent, checked once; the only module that reads the environment."""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, fields
from types import MappingProxyType
from typing import Any

from pyprof_agent.errors import ConfigError

PREFIX = "PYPROF_AGENT_"

_RUN_OUTPUT = "PYPROF_AGENT_RUN_OUTPUT"
_RUN_PROCESS = "PYPROF_AGENT_RUN_PROCESS"

HEAP_ENGINES = ("auto", "native", "tracemalloc")
STACK_ENGINES = ("auto", "native", "python")

_FRACTIONS = ("stack_hz", "stack_max_cpu", "leak_limit", "profile_keep_days")
_PATHS = ("profile_dir",)
NOT_FROM_ENVIRONMENT = ("on_leak",)
"""Options that no text can give."""

_TRUE = ("1", "true", "yes", "on")
_FALSE = ("0", "false", "no", "off")


@dataclass(frozen=True, slots=True, kw_only=True)
class Config:
    """What the agent does; every field can come from `PYPROF_AGENT_<FIELD>` too.

    heap: sample allocations
    stacks: sample stacks, for CPU and wall profiles
    heap_engine: `auto`, `native` or `tracemalloc`
    stack_engine: `auto`, `native` or `python`
    heap_sample_bytes: mean number of bytes allocated between two samples (native engine)
    stack_hz: how often a second stacks are looked at; None is the engine's own default
    stack_max_cpu: share of one core that looking at stacks may cost: where it would cost more they
        are looked at less often
    max_frames: frames kept of a stack, counted from the leaf
    look_back: seconds that one can look back for, in ten-second steps (native engine); 0 is none
    leak_window: seconds over which growth of memory is judged, by 60 looks; 0 is no watch. None is
        an hour with the native heap engine, and no watch with tracemalloc, whose looks cost more
    leak_limit: growth, in per cent of the process's memory an hour, from which on the agent warns
    on_leak: is called with the `LeakReport` at each such warning; not from the environment
    profile_dir: folder that a heap profile is written to now and then; None writes none
    profile_every: seconds between two of a process
    profile_keep, profile_keep_days, profile_keep_bytes: the most that is kept in that folder:
        files, days since they were written, bytes of all together

    Raises ConfigError for a value that cannot be used.
    """

    heap: bool = True
    stacks: bool = True
    heap_engine: str = "auto"
    stack_engine: str = "auto"
    heap_sample_bytes: int = 524288
    stack_hz: float | None = None
    stack_max_cpu: float = 0.01
    max_frames: int = 128
    look_back: int = 600
    leak_window: int | None = None
    leak_limit: float = 5.0
    on_leak: Callable[[Any], object] | None = None
    profile_dir: str | os.PathLike[str] | None = None
    profile_every: int = 3600
    profile_keep: int = 168
    profile_keep_days: float = 30.0
    profile_keep_bytes: int = 2**30

    def __post_init__(self) -> None:
        for name in ("heap", "stacks"):
            if not isinstance(getattr(self, name), bool):
                raise _wrong(name, getattr(self, name), "use True or False")
        for name, choices in (("heap_engine", HEAP_ENGINES), ("stack_engine", STACK_ENGINES)):
            if getattr(self, name) not in choices:
                raise _wrong(name, getattr(self, name), f"use one of {', '.join(choices)}")
        _check_range("heap_sample_bytes", self.heap_sample_bytes, 1, 2**40, whole=True)
        _check_range("max_frames", self.max_frames, 1, 1024, whole=True)
        if self.stack_hz is not None:
            _check_range("stack_hz", self.stack_hz, 0.1, 1000, whole=False)
        _check_range("stack_max_cpu", self.stack_max_cpu, 0.0001, 1, whole=False)
        _check_range("look_back", self.look_back, 0, 86400, whole=True)
        if self.leak_window is not None:
            _check_range("leak_window", self.leak_window, 0, 30 * 86400, whole=True)
        _check_range("leak_limit", self.leak_limit, 0.01, 100_000, whole=False)
        folder = self.profile_dir
        if folder is not None and (folder == "" or not isinstance(folder, (str, os.PathLike))):
            raise _wrong("profile_dir", folder, "use the path of a folder")
        _check_range("profile_every", self.profile_every, 1, 30 * 86400, whole=True)
        _check_range("profile_keep", self.profile_keep, 1, 10**6, whole=True)
        _check_range("profile_keep_days", self.profile_keep_days, 0.01, 36500, whole=False)
        _check_range("profile_keep_bytes", self.profile_keep_bytes, 1, 2**50, whole=True)
        if self.on_leak is not None and not callable(self.on_leak):
            raise _wrong("on_leak", self.on_leak, "use a function that takes the report")

    @classmethod
    def load(
        cls,
        options: Mapping[str, Any],
        environ: Mapping[str, str] | None = None,
        defaults: Mapping[str, Any] = MappingProxyType({}),
    ) -> Config:
        """The options given in code, then those of the environment, then the defaults.

        environ: defaults to `os.environ`.
        defaults: go before those of the fields

        Raises ConfigError for an unknown option or a value that cannot be used.
        """
        known = {field.name for field in fields(cls)}
        for name in options:
            if name not in known:
                raise ConfigError(f"unknown option {name!r}; known: {', '.join(sorted(known))}")
        return cls(**{**defaults, **_with_environ(cls, options, environ)})


@dataclass(frozen=True, slots=True)
class RunSettings:
    """What `pyprof-agent run` tells the processes below it, through the environment.

    output: folder for the profiles
    process: id of the process whose files carry no id in their names
    """

    output: str
    process: int

    def to_environ(self) -> dict[str, str]:
        """The variables that `load` reads."""
        return {_RUN_OUTPUT: self.output, _RUN_PROCESS: str(self.process)}

    @classmethod
    def load(cls, environ: Mapping[str, str] | None = None) -> RunSettings | None:
        """The settings in the environment (`os.environ` if left out); None without any."""
        environ = os.environ if environ is None else environ
        output, process = environ.get(_RUN_OUTPUT), environ.get(_RUN_PROCESS, "")
        return cls(output, int(process)) if output and process.isdecimal() else None


@dataclass(frozen=True, slots=True, kw_only=True)
class Limits:
    """How much the endpoints serve; every field can come from `PYPROF_AGENT_<FIELD>` too.

    max_seconds: longest window
    max_captures: windows at once, in each process

    Raises ConfigError for a value that cannot be used.
    """

    max_seconds: int = 300
    max_captures: int = 8

    def __post_init__(self) -> None:
        _check_range("max_seconds", self.max_seconds, 1, 86400, whole=True)
        _check_range("max_captures", self.max_captures, 1, 1000, whole=True)

    @classmethod
    def load(
        cls, options: Mapping[str, int | None], environ: Mapping[str, str] | None = None
    ) -> Limits:
        """The options given in code that are not None, then the environment, then the defaults.

        environ: defaults to `os.environ`.

        Raises ConfigError for a value that cannot be used.
        """
        given = {name: value for name, value in options.items() if value is not None}
        return cls(**_with_environ(cls, given, environ))


@dataclass(frozen=True, slots=True, kw_only=True)
class AccessSettings:
    """Who may use the endpoints, as the environment says it; `access/environment.py` checks it.

    access_networks: CIDR texts, separated by commas
    access_token: a bearer token
    access_basic: `USER:PASSWORD`
    """

    access_networks: str | None = None
    access_token: str | None = field(default=None, repr=False)
    access_basic: str | None = field(default=None, repr=False)

    @classmethod
    def load(cls, environ: Mapping[str, str] | None = None) -> AccessSettings:
        """The settings in the environment (`os.environ` if left out)."""
        environ = os.environ if environ is None else environ
        return cls(**{each.name: environ.get(cls.variable(each.name)) for each in fields(cls)})

    @staticmethod
    def variable(name: str) -> str:
        """The variable that a setting is read from."""
        return PREFIX + name.upper()


def _with_environ(
    kind: type[Config] | type[Limits],
    options: Mapping[str, Any],
    environ: Mapping[str, str] | None,
) -> dict[str, Any]:
    """The options, and what the environment says about the other fields of `kind`."""
    environ = os.environ if environ is None else environ
    values = dict(options)
    known = {each.name for each in fields(kind)}
    for name in sorted(known - values.keys() - {*NOT_FROM_ENVIRONMENT}):
        variable = PREFIX + name.upper()
        if variable in environ:
            values[name] = _parse(name, environ[variable])
            try:
                kind(**{name: values[name]})
            except ConfigError as error:
                raise ConfigError(str(error).replace(name, variable, 1)) from None
    return values


def _parse(name: str, text: str) -> object:
    variable = PREFIX + name.upper()
    if name in ("heap", "stacks"):
        word = text.strip().lower()
        if word in _TRUE + _FALSE:
            return word in _TRUE
        raise _wrong(variable, text, f"use one of {', '.join(_TRUE + _FALSE)}")
    if name in ("heap_engine", "stack_engine"):
        return text.strip().lower()
    if name in _PATHS:
        return text
    try:
        return float(text) if name in _FRACTIONS else int(text)
    except ValueError:
        kind = "number" if name in _FRACTIONS else "whole number"
        raise _wrong(variable, text, f"use a {kind}") from None


def _check_range(name: str, value: float, low: float, high: float, *, whole: bool) -> None:
    kinds: tuple[type, ...] = (int,) if whole else (int, float)
    if isinstance(value, bool) or not isinstance(value, kinds) or not low <= value <= high:
        what = "whole number" if whole else "number"
        raise _wrong(name, value, f"use a {what} from {low} to {high}")


def _wrong(name: str, value: object, advice: str) -> ConfigError:
    return ConfigError(f"{name} is {value!r}; {advice}")
