"""Options: their defaults, where they come from, and what is said about the bad ones."""

from __future__ import annotations

import re
from dataclasses import FrozenInstanceError, fields
from typing import Any

import pytest

from pyprof_agent import Config, ConfigError
from pyprof_agent.config import Limits, RunSettings

# Every option: its default, a value that is another, how that is written in the environment.
OPTIONS: dict[str, tuple[Any, Any, str]] = {
    "heap": (True, False, "0"),
    "stacks": (True, False, "no"),
    "heap_engine": ("auto", "tracemalloc", "tracemalloc"),
    "stack_engine": ("auto", "python", " Python "),
    "heap_sample_bytes": (524288, 4096, "4096"),
    "stack_hz": (None, 49.5, "49.5"),
    "stack_max_cpu": (0.01, 0.5, "0.5"),
    "max_frames": (128, 64, " 64"),
    "look_back": (600, 0, "0"),
    "leak_window": (None, 60, "60"),
    "leak_limit": (5.0, 2.5, "2.5"),
    "profile_dir": (None, "/srv/my profiles", "/srv/my profiles"),
    "profile_every": (3600, 60, "60"),
    "profile_keep": (168, 1, "1"),
    "profile_keep_days": (30.0, 0.5, "0.5"),
    "profile_keep_bytes": (2**30, 1, "1"),
}

IN_CODE = {"on_leak": None}
"""Options that are not of the environment, with their defaults."""


def variable(option: str) -> str:
    return f"PYPROF_AGENT_{option.upper()}"


def values(config: Config) -> dict[str, Any]:
    return {field.name: getattr(config, field.name) for field in fields(config)}


# Where values come from


def test_the_table_has_every_option_and_its_default() -> None:
    defaults = {name: default for name, (default, _, _) in OPTIONS.items()} | IN_CODE
    assert values(Config()) == defaults
    assert values(Config.load({}, {})) == defaults


@pytest.mark.parametrize("option", OPTIONS)
def test_an_option_given_in_code_changes_it_alone(option: str) -> None:
    default, other, _ = OPTIONS[option]
    assert other != default
    assert values(Config.load({option: other}, {})) == {**values(Config()), option: other}


@pytest.mark.parametrize("option", OPTIONS)
def test_a_variable_of_the_environment_changes_its_option_alone(option: str) -> None:
    _, other, text = OPTIONS[option]
    config = Config.load({}, {variable(option): text})
    assert values(config) == {**values(Config()), option: other}
    assert type(getattr(config, option)) is type(other)


@pytest.mark.parametrize("option", OPTIONS)
def test_code_goes_before_the_environment(option: str) -> None:
    default, other, text = OPTIONS[option]
    config = Config.load({option: default}, {variable(option): text})
    assert config == Config()
    assert config != Config.load({option: other}, {})


def test_code_and_environment_go_together() -> None:
    config = Config.load({"max_frames": 7}, {variable("stack_hz"): "5", variable("heap"): "off"})
    assert config == Config(max_frames=7, stack_hz=5.0, heap=False)


def test_the_environment_is_that_of_the_process_if_none_is_given(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("PYPROF_AGENT_MAX_FRAMES", "9")
    assert Config.load({}).max_frames == 9
    assert Config.load({}, {}).max_frames == 128


def test_the_environment_is_not_read_without_load(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PYPROF_AGENT_MAX_FRAMES", "9")
    assert Config().max_frames == 128


@pytest.mark.parametrize("name", ["PYPROF_AGENT_NONSENSE", "pyprof_agent_max_frames", "MAX_FRAMES"])
def test_other_variables_are_none_of_our_business(name: str) -> None:
    assert Config.load({}, {name: "9"}) == Config()


@pytest.mark.parametrize(
    ("text", "value"),
    [
        *((text, True) for text in ("1", "true", "True", "YES", "on", " on ")),
        *((text, False) for text in ("0", "false", "FALSE", "no", "Off")),
    ],
)
@pytest.mark.parametrize("option", ["heap", "stacks"])
def test_a_switch_of_the_environment_is_a_word(option: str, text: str, value: bool) -> None:
    assert getattr(Config.load({}, {variable(option): text}), option) is value


def test_a_config_cannot_be_changed() -> None:
    config, option = Config(), "heap"
    with pytest.raises(FrozenInstanceError):
        setattr(config, option, False)
    assert config.heap is True


# Values at the limits, and beyond them


@pytest.mark.parametrize(
    ("option", "value"),
    [
        ("heap_sample_bytes", 1),
        ("heap_sample_bytes", 2**40),
        ("max_frames", 1),
        ("max_frames", 1024),
        ("stack_hz", 0.1),
        ("stack_hz", 1000),
        ("heap_engine", "native"),
        ("stack_engine", "native"),
    ],
)
def test_a_value_at_the_limit_is_taken(option: str, value: object) -> None:
    assert getattr(Config.load({option: value}, {}), option) == value


BAD_VALUES = [
    ("heap", 1, "use True or False"),
    ("heap", "yes", "use True or False"),
    ("heap", None, "use True or False"),
    ("stacks", 0, "use True or False"),
    ("heap_engine", "memray", "use one of auto, native, tracemalloc"),
    ("heap_engine", "python", "use one of auto, native, tracemalloc"),
    ("heap_engine", None, "use one of auto, native, tracemalloc"),
    ("stack_engine", "tracemalloc", "use one of auto, native, python"),
    ("stack_engine", "", "use one of auto, native, python"),
    ("heap_sample_bytes", 0, "use a whole number from 1 to"),
    ("heap_sample_bytes", 2**40 + 1, "use a whole number from 1 to"),
    ("heap_sample_bytes", 1.5, "use a whole number from 1 to"),
    ("heap_sample_bytes", True, "use a whole number from 1 to"),
    ("heap_sample_bytes", "4096", "use a whole number from 1 to"),
    ("stack_hz", 0, "use a number from 0.1 to 1000"),
    ("stack_hz", 1000.5, "use a number from 0.1 to 1000"),
    ("stack_hz", float("nan"), "use a number from 0.1 to 1000"),
    ("stack_hz", float("inf"), "use a number from 0.1 to 1000"),
    ("stack_hz", "100", "use a number from 0.1 to 1000"),
    ("stack_hz", True, "use a number from 0.1 to 1000"),
    ("max_frames", 0, "use a whole number from 1 to 1024"),
    ("max_frames", -1, "use a whole number from 1 to 1024"),
    ("max_frames", 1025, "use a whole number from 1 to 1024"),
    ("max_frames", None, "use a whole number from 1 to 1024"),
]


@pytest.mark.parametrize(("option", "value", "advice"), BAD_VALUES)
def test_a_bad_value_is_an_error_with_name_value_and_advice(
    option: str, value: Any, advice: str
) -> None:
    with pytest.raises(ConfigError) as caught:
        Config.load({option: value}, {})
    message = str(caught.value)
    assert message.startswith(f"{option} is {value!r}; ")
    assert advice in message
    with pytest.raises(ConfigError, match=re.escape(message)):
        Config(**{option: value})


@pytest.mark.parametrize(
    ("option", "text", "advice"),
    [
        ("heap", "", "use one of 1, true, yes, on, 0, false, no, off"),
        ("heap", "2", "use one of 1, true, yes, on, 0, false, no, off"),
        ("stacks", "maybe", "use one of 1, true, yes, on, 0, false, no, off"),
        ("heap_engine", "memray", "use one of auto, native, tracemalloc"),
        ("stack_engine", "", "use one of auto, native, python"),
        ("heap_sample_bytes", "512k", "use a whole number"),
        ("heap_sample_bytes", "0", "use a whole number from 1 to"),
        ("stack_hz", "", "use a number"),
        ("stack_hz", "fast", "use a number"),
        ("stack_hz", "nan", "use a number from 0.1 to 1000"),
        ("stack_hz", "-1", "use a number from 0.1 to 1000"),
        ("max_frames", "1.5", "use a whole number"),
        ("max_frames", "100000", "use a whole number from 1 to 1024"),
    ],
)
def test_a_bad_variable_is_an_error_with_name_value_and_advice(
    option: str, text: str, advice: str
) -> None:
    with pytest.raises(ConfigError) as caught:
        Config.load({}, {variable(option): text})
    message = str(caught.value)
    # What cannot be read is told by the variable, what is out of range by the option.
    assert message.startswith((f"{variable(option)} is ", f"{option} is "))
    assert text in message
    assert advice in message


@pytest.mark.parametrize("name", ["heap_hz", "Heap", "PYPROF_AGENT_HEAP", ""])
def test_an_unknown_option_is_an_error_that_lists_the_known(name: str) -> None:
    with pytest.raises(ConfigError) as caught:
        Config.load({"heap": True, name: 1}, {})
    known = ", ".join(sorted({*OPTIONS, *IN_CODE}))
    assert str(caught.value) == f"unknown option {name!r}; known: {known}"


def test_options_have_to_be_named() -> None:
    with pytest.raises(TypeError):
        Config(False)  # type: ignore[call-arg]


# What `pyprof-agent run` passes on


def test_run_settings_survive_the_environment() -> None:
    settings = RunSettings("/var/profiles", 4711)
    environ = settings.to_environ()
    assert all(name.startswith("PYPROF_AGENT_RUN_") for name in environ)
    assert RunSettings.load({"PATH": "/bin", **environ}) == settings


def test_run_settings_come_from_the_process_if_no_environment_is_given(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    settings = RunSettings("/var/profiles", 4711)
    for name, value in settings.to_environ().items():
        monkeypatch.setenv(name, value)
    assert RunSettings.load() == settings


@pytest.mark.parametrize(
    "changes", [{"OUTPUT": None}, {"PROCESS": None}, {"OUTPUT": ""}, {"PROCESS": "x"}]
)
def test_incomplete_run_settings_are_none(changes: dict[str, str | None]) -> None:
    environ: dict[str, str | None] = {**RunSettings("/var/profiles", 4711).to_environ()}
    environ.update({f"PYPROF_AGENT_RUN_{name}": value for name, value in changes.items()})
    assert RunSettings.load({k: v for k, v in environ.items() if v is not None}) is None


def test_run_settings_are_no_options() -> None:
    assert Config.load({}, RunSettings("/var/profiles", 4711).to_environ()) == Config()


def test_the_callers_defaults_go_before_the_fields_own_and_after_the_environment() -> None:
    defaults = {"stack_hz": 7.0, "max_frames": 9}
    config = Config.load({"max_frames": 3}, {"PYPROF_AGENT_HEAP_SAMPLE_BYTES": "524288"}, defaults)
    assert (config.stack_hz, config.max_frames, config.heap_sample_bytes) == (7.0, 3, 524288)
    assert Config.load({}, {"PYPROF_AGENT_STACK_HZ": "50"}, defaults).stack_hz == 50


# Limits of the endpoints


def test_limits_come_from_code_then_from_the_environment() -> None:
    environ = {"PYPROF_AGENT_MAX_SECONDS": "60", "PYPROF_AGENT_MAX_CAPTURES": "2"}
    assert Limits.load({}, {}) == Limits(max_seconds=300, max_captures=8)
    assert Limits.load({}, environ) == Limits(max_seconds=60, max_captures=2)
    assert Limits.load({"max_seconds": 5, "max_captures": None}, environ) == Limits(
        max_seconds=5, max_captures=2
    )


@pytest.mark.parametrize(
    ("name", "value", "message"),
    [
        ("max_seconds", 0, "max_seconds is 0; use a whole number from 1 to 86400"),
        ("max_seconds", 86401, "max_seconds is 86401; use a whole number from 1 to 86400"),
        ("max_seconds", True, "max_seconds is True; use a whole number from 1 to 86400"),
        ("max_captures", 0, "max_captures is 0; use a whole number from 1 to 1000"),
        ("max_captures", 1.5, "max_captures is 1.5; use a whole number from 1 to 1000"),
    ],
)
def test_a_limit_of_no_use_is_told(name: str, value: Any, message: str) -> None:
    with pytest.raises(ConfigError, match=f"^{message}$"):
        Limits.load({name: value}, {})
    variable = f"PYPROF_AGENT_{name.upper()}"
    with pytest.raises(ConfigError, match=f"^{variable} is "):
        Limits.load({}, {variable: str(value)})
