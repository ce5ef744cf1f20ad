"""Rules of access: whom each lets in, what it says to others, and that it tells no secret."""

from __future__ import annotations

import asyncio
import base64
import ipaddress
import logging
import pickle
from dataclasses import FrozenInstanceError
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pyprof_agent import ConfigError
from pyprof_agent.access import Basic, Loopback, Networks, Refusal, Rule, Token
from pyprof_agent.access.environment import configured
from pyprof_agent.access.request import credential, host_name, peer
from pyprof_agent.access.rules import as_rule
from pyprof_agent.config import AccessSettings

SECRET = "s3cret-Tok3n"


def scope(
    client: object = ("127.0.0.1", 1), host: str | None = "localhost", **headers: str | bytes
) -> dict[str, Any]:
    """An ASGI scope; `_` in the name of a header stands for `-`."""
    pairs = [] if host is None else [(b"host", host.encode("latin-1"))]
    for name, value in headers.items():
        raw = value if isinstance(value, bytes) else value.encode()
        pairs.append((name.replace("_", "-").encode(), raw))
    return {"type": "http", "client": client, "headers": pairs}


def ask(rule: Rule, request: dict[str, Any]) -> Refusal | None:
    return asyncio.run(rule.check(request))


def basic(user: str, password: str) -> str:
    return "Basic " + base64.b64encode(f"{user}:{password}".encode()).decode()


# Who the peer is


@pytest.mark.parametrize(
    ("client", "address"),
    [
        (("127.0.0.1", 1), "127.0.0.1"),
        (["10.0.0.5", 0], "10.0.0.5"),
        (("::ffff:10.0.0.5", 1), "10.0.0.5"),
        (("::1", 1), "::1"),
        (("fe80::1%eth0", 1), "fe80::1%eth0"),
        (("", 0), None),
        (("/run/service.sock", 0), None),
        (("unix:", None), None),
        (("testclient", 1), None),
        ((None, 0), None),
        ((), None),
        (None, None),
    ],
)
def test_a_peer_is_an_address_or_unknown(client: object, address: str | None) -> None:
    wanted = ipaddress.ip_address(address) if address else None
    assert peer(scope(client)) == wanted


def test_a_peer_that_the_server_does_not_tell_is_unknown() -> None:
    assert peer({"type": "http", "headers": []}) is None


# Loopback


@pytest.mark.parametrize(
    "host",
    [
        *("localhost", "LOCALHOST", "localhost.", "localhost:8000", "localhost:", "shop.localhost"),
        *("127.0.0.1", "127.0.0.1:6060", "127.8.9.1", "[::1]", "[::1]:80", "[::ffff:127.0.0.1]"),
    ],
)
def test_loopback_is_asked_for_by_its_names(host: str) -> None:
    assert ask(Loopback(), scope(host=host)) is None


@pytest.mark.parametrize(
    "host",
    [
        *("evil.example", "localhost.evil.example", "127.0.0.1.evil.example", "evillocalhost", ""),
        *("127.0.0.1@evil.example", "localhost:80:80", "localhost:x", "::1", "[::1", "10.0.0.5"),
        *(
            "0.0.0.0",
            "127.1",
            "2130706433",
            "local host",
            "localhost,evil.example",
            "\u217cocalhost",
        ),
    ],
)
def test_another_name_for_loopback_is_refused(host: str) -> None:
    request = {**scope(host=None), "headers": [(b"host", host.encode())]}
    refusal = ask(Loopback(), request)
    assert refusal is not None
    assert refusal.status == 403
    assert "is no name of the loopback interface; ask for localhost" in refusal.message


def test_no_host_and_two_hosts_are_refused() -> None:
    assert ask(Loopback(), scope(host=None)) is not None
    twice = scope()
    twice["headers"].append((b"host", b"localhost"))
    assert ask(Loopback(), twice) is not None


def test_more_names_of_this_machine_can_be_given() -> None:
    rule = Loopback("Shop.local")
    assert ask(rule, scope(host="shop.local:8000")) is None
    assert ask(rule, scope(host="other.local")) is not None
    assert ask(rule, scope(("10.0.0.5", 1), "shop.local")) is not None


@pytest.mark.parametrize("host", ["", "shop:80", "*", "http://shop", "a..b", 5, None])
def test_a_name_that_is_none_is_told(host: Any) -> None:
    with pytest.raises(ConfigError, match="is no host name; use a name without port"):
        Loopback(host)


# Networks


@pytest.mark.parametrize(
    ("network", "client", "inside"),
    [
        ("10.0.0.0/8", "10.1.2.3", True),
        ("10.0.0.0/8", "11.1.2.3", False),
        ("10.0.0.0/8", "::ffff:10.1.2.3", True),
        ("::ffff:10.0.0.0/104", "10.1.2.3", True),
        ("::ffff:10.0.0.0/104", "::ffff:10.1.2.3", True),
        ("10.0.0.5", "10.0.0.5", True),
        ("10.0.0.5", "10.0.0.6", False),
        ("fd00::/8", "fd12::1", True),
        ("fe80::/10", "fe80::1%eth0", True),
        ("fd00::/8", "2001:db8::1", False),
        ("0.0.0.0/0", "203.0.113.9", True),
        ("0.0.0.0/0", "::1", False),
        ("0.0.0.0/0", "", False),
        ("::/0", "127.0.0.1", False),
    ],
)
def test_networks_are_judged_by_the_address(network: str, client: str, inside: bool) -> None:
    refusal = ask(Networks("192.0.2.0/24", network), scope((client, 1), "any.example"))
    assert (refusal is None) is inside
    assert inside or (refusal is not None and refusal.status == 403)


def test_a_client_that_is_not_known_is_in_no_network() -> None:
    assert ask(Networks("0.0.0.0/0", "::/0"), scope(None)) is not None


@pytest.mark.parametrize("text", ["10.0.0.1/8", "10.0.0.0/33", "ten", "", "10.0.0.0-10.0.0.9"])
def test_a_network_that_is_none_is_told(text: str) -> None:
    with pytest.raises(ConfigError, match=f"^'{text}' is no network .*; use CIDR, as 10.0.0.0/8$"):
        Networks(text)


def test_no_network_at_all_is_told() -> None:
    with pytest.raises(ConfigError, match="would let nobody in"):
        Networks()


# Credentials


@pytest.mark.parametrize("written", ["Bearer {}", "bearer {}", "BEARER   {}", " Bearer {} "])
def test_the_token_lets_in_from_anywhere(written: str) -> None:
    for client in (("203.0.113.9", 1), None, ("", 0)):
        request = scope(client, authorization=written.format(SECRET))
        assert ask(Token(SECRET), request) is None


@pytest.mark.parametrize(
    "value",
    [
        *("Bearer", "Bearer ", f"Bearer {SECRET}x", f"Bearer {SECRET[:-1]}", f"Token {SECRET}"),
        *(SECRET, f"Bearer{SECRET}", f"Bearer {SECRET} x", f"Bearer {SECRET.lower()}", ""),
        *(f"Basic {SECRET}", "Bearer \xff\xfe", "Bearer é"),
    ],
)
def test_anything_else_is_no_token(value: str) -> None:
    refusal = ask(Token(SECRET), scope(authorization=value))
    assert refusal is not None
    assert (refusal.status, refusal.challenges) == (401, ('Bearer realm="pprof"',))


def test_no_credential_and_two_of_them_are_refused() -> None:
    right = (b"authorization", f"Bearer {SECRET}".encode())
    for headers in ([], [right, right], [right, (b"authorization", b"Bearer x")]):
        assert ask(Token(SECRET), {"client": None, "headers": headers}) is not None


@pytest.mark.parametrize(
    ("user", "password"), [("me", SECRET), ("mé", "pässwörd ☃"), ("me", "with:colon: ")]
)
def test_user_and_password_let_in(user: str, password: str) -> None:
    rule = Basic(user, password)
    assert ask(rule, scope(None, authorization=basic(user, password))) is None
    for wrong in (basic(user, password + "x"), basic(user + "x", password), basic(password, user)):
        refusal = ask(rule, scope(authorization=wrong))
        assert refusal is not None
        assert refusal.status == 401
        assert refusal.challenges == ('Basic realm="pprof", charset="UTF-8"',)


@pytest.mark.parametrize("value", ["Basic", "Basic !!!", "Basic bWU", "Basic é", "Basic Og=="])
def test_what_is_no_user_and_password_is_refused(value: str) -> None:
    assert ask(Basic("me", SECRET), scope(authorization=value)) is not None


@pytest.mark.parametrize("token", ["", "with space", "tab\t", "new\nline", "é", None, b"bytes"])
def test_a_token_that_no_header_carries_is_told_without_it(token: Any) -> None:
    with pytest.raises(ConfigError, match="use visible ASCII") as caught:
        Token(token)
    assert not token or str(token) not in str(caught.value)


@pytest.mark.parametrize(
    ("user", "password", "message"),
    [
        ("", "x", "user name is empty"),
        ("a:b", "x", "has a colon"),
        (None, "x", "user name is empty"),
        ("me", "", "password is empty"),
        ("me", None, "password is empty"),
        ("me", SECRET + "\n", "control character"),
    ],
)
def test_a_user_or_password_of_no_use_is_told(user: Any, password: Any, message: str) -> None:
    with pytest.raises(ConfigError, match=message) as caught:
        Basic(user, password)
    assert SECRET not in str(caught.value)


@pytest.mark.parametrize(
    "rule", [Token(SECRET), Basic("me", SECRET), Token(SECRET) | Basic("me", SECRET) & Loopback()]
)
def test_no_repr_shows_a_secret(rule: Rule) -> None:
    assert SECRET not in f"{rule!r} {rule} {AccessSettings(access_token=SECRET)}"
    refusal = ask(rule, scope(("10.0.0.5", 1), authorization="Bearer wrong"))
    assert SECRET not in repr(refusal)
    assert repr(pickle.loads(pickle.dumps(rule))) == repr(rule)


@given(st.binary(max_size=60))
def test_no_authorization_header_breaks_a_rule_or_gets_in(value: bytes) -> None:
    request = {"client": None, "headers": [(b"authorization", value)]}
    for rule in (Token(SECRET), Basic("me", SECRET)):
        assert ask(rule, request) is not None
    for scheme in (b"Bearer ", b"Basic ", b"Basic " + base64.b64encode(b"me:")):
        request = {"client": None, "headers": [(b"authorization", scheme + value)]}
        for rule in (Token(SECRET), Basic("me", SECRET)):
            assert ask(rule, request) is not None


@given(st.text(min_size=1).filter(str.isprintable), st.text(min_size=1).filter(str.isprintable))
def test_every_user_and_password_that_is_taken_gets_in(user: str, password: str) -> None:
    user = user.replace(":", "_")
    assert ask(Basic(user, password), scope(authorization=basic(user, password))) is None


@given(st.text(alphabet=[chr(n) for n in range(33, 127)], min_size=1))
def test_every_token_that_is_taken_gets_in(token: str) -> None:
    request = scope(authorization=f"Bearer {token}")
    assert credential(request, "bearer") == token.encode()
    assert ask(Token(token), request) is None


@given(st.binary(max_size=40))
def test_a_host_header_is_a_name_or_nothing(value: bytes) -> None:
    name = host_name(value)
    assert name is None or (name == name.lower() and "@" not in name and "/" not in name)
    if ask(Loopback(), {"client": ("::1", 1), "headers": [(b"host", value)]}) is None:
        assert b"localhost" in value.lower() or b"127." in value or b"::" in value


@given(st.ip_addresses(), st.integers(0, 65535))
def test_an_address_as_host_is_read_back(address: object, port: int) -> None:
    shown = f"[{address}]" if ":" in str(address) else str(address)
    assert host_name(f"{shown}:{port}".encode()) == str(address)


# Functions


async def yes(_: object) -> bool:
    await asyncio.sleep(0)
    return True


def test_a_function_decides_sync_or_async() -> None:
    seen = []

    def decide(request: dict[str, Any]) -> bool:
        seen.append(request)
        request["client"] = None  # a copy: what others see is left alone
        return True

    request = scope()
    assert ask(as_rule(decide), request) is None
    assert seen[0]["headers"] == request["headers"]
    assert request["client"] == ("127.0.0.1", 1)
    assert ask(as_rule(yes), request) is None
    refusal = ask(as_rule(lambda _: False), request)
    assert refusal == Refusal(403, "pprof endpoints do not answer this client")


@pytest.mark.parametrize("answer", [None, 1, "yes", object()])
def test_only_true_lets_in(answer: Any, caplog: pytest.LogCaptureFixture) -> None:
    assert ask(as_rule(lambda _: answer), scope()) is not None
    assert f"returned a {type(answer).__name__}" in caplog.text
    assert "return True or False" in caplog.text


def test_what_a_function_raises_refuses_and_is_logged(caplog: pytest.LogCaptureFixture) -> None:
    async def later(_: object) -> bool:
        raise LookupError("no such session")

    def at_once(_: object) -> bool:
        raise LookupError("no such session")

    for function in (later, at_once):
        with caplog.at_level(logging.ERROR):
            refusal = ask(as_rule(function), scope())
        assert refusal is not None
        assert refusal.status == 403
        assert "no such session" not in refusal.message
        assert function.__qualname__ in caplog.text


@pytest.mark.parametrize("value", [SECRET, None, 5, Token, ("a", "b")])
def test_what_is_no_rule_is_told_without_its_value(value: Any) -> None:
    with pytest.raises(ConfigError, match="use a rule of pyprof_agent") as caught:
        as_rule(value)
    assert SECRET not in str(caught.value)


def test_rules_cannot_be_changed() -> None:
    for rule, name in ((Token(SECRET), "token"), (Networks("10.0.0.5"), "networks")):
        with pytest.raises(FrozenInstanceError):
            setattr(rule, name, "other")


# Several


def test_both_are_needed_and_addresses_are_judged_first() -> None:
    asked = []

    def note(_: object) -> bool:
        asked.append(True)
        return True

    right = f"Bearer {SECRET}"
    for rule in (note & Token(SECRET) & Networks("10.0.0.0/8"),):
        assert ask(rule, scope(("10.0.0.5", 1), authorization=right)) is None
        assert asked == [True]
        # A stranger does not learn that the token is right, and nobody asks the function.
        for authorization in (right, "Bearer wrong"):
            refusal = ask(rule, scope(("203.0.113.9", 1), authorization=authorization))
            assert refusal is not None
            assert refusal.status == 403
        refusal = ask(rule, scope(("10.0.0.5", 1), authorization="Bearer wrong"))
        assert refusal is not None
        assert refusal.status == 401
        assert asked == [True]


def test_one_is_enough_and_all_challenges_are_told() -> None:
    rule = yes_if_local | Token(SECRET) | Basic("me", SECRET)
    assert ask(rule, scope(None, authorization=basic("me", SECRET))) is None
    assert ask(rule, scope(None, authorization=f"Bearer {SECRET}")) is None
    assert ask(rule, scope()) is None
    refusal = ask(rule, scope(None))
    assert refusal is not None
    assert refusal.status == 401
    assert [challenge.partition(" ")[0] for challenge in refusal.challenges] == ["Bearer", "Basic"]


def yes_if_local(request: dict[str, Any]) -> bool:
    return request["client"] is not None


# The environment


def settings(**environ: str) -> AccessSettings:
    return AccessSettings.load({f"PYPROF_AGENT_ACCESS_{name}": environ[name] for name in environ})


def test_without_variables_it_is_loopback_only() -> None:
    assert configured(settings()) == Loopback()


def test_networks_and_one_of_the_credentials_are_needed() -> None:
    rule = configured(
        settings(NETWORKS="10.0.0.0/8, fd00::/8", TOKEN=SECRET, BASIC=f"me:{SECRET}:x")
    )
    for authorization in (f"Bearer {SECRET}", basic("me", f"{SECRET}:x")):
        assert ask(rule, scope(("fd00::1", 1), authorization=authorization)) is None
        assert ask(rule, scope(("127.0.0.1", 1), authorization=authorization)) is not None
    assert ask(rule, scope(("10.0.0.1", 1))) is not None


@pytest.mark.parametrize(
    ("name", "text", "message"),
    [
        ("NETWORKS", "", "'' is no network"),
        ("NETWORKS", "10.0.0.1/8", "'10.0.0.1/8' is no network"),
        ("TOKEN", "", "the token is empty"),
        ("TOKEN", f"{SECRET} ", "the token is empty or has characters"),
        ("BASIC", "", "use USER:PASSWORD"),
        ("BASIC", SECRET, "use USER:PASSWORD"),
        ("BASIC", f":{SECRET}", "the user name is empty"),
        ("BASIC", "me:", "the password is empty"),
    ],
)
def test_a_variable_of_no_use_is_named_and_its_secret_is_not(
    name: str, text: str, message: str
) -> None:
    with pytest.raises(
        ConfigError, match=f"^PYPROF_AGENT_ACCESS_{name} cannot be used: "
    ) as caught:
        configured(settings(**{name: text}))
    assert message in str(caught.value)
    assert SECRET not in str(caught.value)


def test_the_environment_is_that_of_the_process(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PYPROF_AGENT_ACCESS_TOKEN", SECRET)
    assert AccessSettings.load().access_token == SECRET
