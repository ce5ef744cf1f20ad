"""Parameters as Go reads them, and the wait for a window that the client may leave."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest
from starlette.datastructures import QueryParams
from starlette.types import Message

from pyprof_agent.http import window
from pyprof_agent.http.window import (
    DEFAULT_SECONDS,
    INVALID_SECONDS,
    BadParameterError,
    EndingError,
    first,
    flag,
    integer,
    parameters,
)

# What Go's strconv.ParseInt makes of it in base 10; None where it gives an error.
AS_GO_READS = [
    ("", None),
    ("abc", None),
    ("-1", -1),
    ("0", 0),
    ("-0", 0),
    ("007", 7),
    ("1.5", None),
    ("1e3", None),
    ("0x10", None),
    ("+5", 5),
    ("++5", None),
    ("+", None),
    (" 5", None),
    ("5 ", None),
    ("5\n", None),
    ("1_0", None),
    ("٣", None),
    ("\uff15", None),  # a full-width 5
    ("NaN", None),
    (str(10**12), 10**12),
    (str(2**63 - 1), 2**63 - 1),
    (str(2**63), None),
    (str(10**30), None),
    ("9" * 5000, None),
]


MAX_SECONDS = 300


def profile_seconds(params: QueryParams) -> int:
    return window.profile_seconds(params, MAX_SECONDS)


def delta_seconds(params: QueryParams) -> int | None:
    return window.delta_seconds(params, MAX_SECONDS)


def query(**parameters: str) -> QueryParams:
    return QueryParams(list(parameters.items()))


@pytest.mark.parametrize(("text", "number"), AS_GO_READS)
def test_an_integer_is_what_go_takes_for_one(text: str, number: int | None) -> None:
    assert integer(query(seconds=text), "seconds") == number


@pytest.mark.parametrize(("text", "number"), AS_GO_READS)
def test_a_flag_is_what_go_takes_for_one(text: str, number: int | None) -> None:
    # Go's strconv.Atoi gives the nearest integer beside the error, and nobody looks at that.
    too_large = {str(2**63), str(10**30), "9" * 5000}
    assert flag(query(debug=text), "debug") == (1 if text in too_large else number or 0)


def test_a_flag_that_is_missing_or_far_below_zero() -> None:
    assert flag(query(), "debug") == 0
    assert flag(query(debug=str(-(10**30))), "debug") == -1


@pytest.mark.parametrize(
    ("query", "pairs"),
    [
        ("", []),
        ("seconds=1&debug=2", [("seconds", "1"), ("debug", "2")]),
        ("seconds=1;debug=2", []),
        ("seconds=1;debug=2&gc=1", [("gc", "1")]),
        ("seconds=%zz&gc=1", [("gc", "1")]),
        ("%=1&gc=%31", [("gc", "1")]),
        ("gc=+1", [("gc", " 1")]),
        ("gc&debug=", [("gc", ""), ("debug", "")]),
        ("gc=\xff&debug=1", [("gc", "\xff"), ("debug", "1")]),
    ],
)
def test_parameters_are_what_go_takes_for_some(query: str, pairs: list[tuple[str, str]]) -> None:
    assert parameters(query).multi_items() == pairs


def test_a_missing_integer_is_none() -> None:
    assert integer(query(), "seconds") is None


@pytest.mark.parametrize(
    ("pairs", "value"),
    [([], ""), ([("debug", "1")], "1"), ([("debug", "1"), ("debug", "2")], "1")],
)
def test_the_first_of_repeated_parameters_counts(pairs: list[tuple[str, str]], value: str) -> None:
    assert first(QueryParams(pairs), "debug") == value


def test_the_first_of_repeated_seconds_counts_even_if_it_is_unusable() -> None:
    twice = QueryParams([("seconds", "abc"), ("seconds", "5")])
    assert profile_seconds(twice) == DEFAULT_SECONDS
    with pytest.raises(BadParameterError):
        delta_seconds(twice)
    assert delta_seconds(QueryParams([("seconds", "5"), ("seconds", "abc")])) == 5


def test_a_plus_sign_in_a_url_is_a_space_and_no_sign() -> None:
    assert profile_seconds(QueryParams("seconds=+5")) == DEFAULT_SECONDS
    assert profile_seconds(QueryParams("seconds=%2B5")) == 5


# A window that is always one


def test_profile_seconds_default_to_thirty_as_in_go() -> None:
    assert DEFAULT_SECONDS == 30
    assert profile_seconds(query()) == 30


@pytest.mark.parametrize(
    "text", [text for text, number in AS_GO_READS if number is None or number <= 0]
)
def test_profile_seconds_that_go_cannot_use_are_thirty(text: str) -> None:
    assert profile_seconds(query(seconds=text)) == 30


@pytest.mark.parametrize("seconds", [1, 10, MAX_SECONDS])
def test_profile_seconds_are_taken_up_to_the_limit(seconds: int) -> None:
    assert profile_seconds(query(seconds=str(seconds))) == seconds


@pytest.mark.parametrize("read", [profile_seconds, delta_seconds])
@pytest.mark.parametrize("seconds", [MAX_SECONDS + 1, 10**12])
def test_more_seconds_than_are_served_is_an_error_with_both_numbers(
    read: Any, seconds: int
) -> None:
    with pytest.raises(BadParameterError, match=f'"seconds" is {seconds}; at most {MAX_SECONDS} '):
        read(query(seconds=str(seconds)))


def test_the_default_is_not_longer_than_the_longest() -> None:
    assert window.profile_seconds(query(), 10) == 10
    with pytest.raises(BadParameterError, match='"seconds" is 11; at most 10 are served'):
        window.profile_seconds(query(seconds="11"), 10)


# A window that is asked for


@pytest.mark.parametrize("parameters", [{}, {"seconds": ""}, {"seconds": "", "debug": "1"}])
def test_delta_seconds_are_none_where_no_window_is_wanted(parameters: dict[str, str]) -> None:
    assert delta_seconds(query(**parameters)) is None


@pytest.mark.parametrize("text", ["abc", "-1", "0", "1.5", " 5", "1_0", "٣", str(10**30)])
def test_delta_seconds_that_are_no_positive_integer_are_gos_error(text: str) -> None:
    with pytest.raises(BadParameterError) as caught:
        delta_seconds(query(seconds=text))
    assert str(caught.value) == INVALID_SECONDS
    assert INVALID_SECONDS == 'invalid value for "seconds" - must be a positive integer'


def test_delta_seconds_where_they_are_not_supported_are_gos_error() -> None:
    refused = '"seconds" parameter is not supported for this profile type'
    with pytest.raises(BadParameterError, match=refused):
        window.delta_seconds(query(seconds="1"), MAX_SECONDS, supported=False)
    with pytest.raises(BadParameterError, match="positive integer"):
        window.delta_seconds(query(seconds="x"), MAX_SECONDS, supported=False)
    assert window.delta_seconds(query(), MAX_SECONDS, supported=False) is None


@pytest.mark.parametrize("debug", ["1", "2", "-1"])
def test_delta_seconds_do_not_go_with_debug(debug: str) -> None:
    with pytest.raises(BadParameterError, match=r"^seconds and debug params are incompatible$"):
        delta_seconds(query(seconds="1", debug=debug))


@pytest.mark.parametrize("debug", ["0", "", "abc"])
def test_delta_seconds_go_with_a_debug_that_is_off(debug: str) -> None:
    assert delta_seconds(query(seconds="1", debug=debug)) == 1


# The wait


async def never() -> None:
    """A server that does not end."""
    await asyncio.Event().wait()


async def until_gone(receive: Any, work: Any, server_end: Any = None) -> Any:
    return await window.until_gone(receive, work, never() if server_end is None else server_end)


class Client:
    """The receiving side of a request: gives its messages, then nothing."""

    def __init__(self, *messages: str) -> None:
        self.messages = list(messages)
        self.waiting = asyncio.Event()
        self.waits = 0

    async def receive(self) -> dict[str, Any]:
        if self.messages:
            return {"type": self.messages.pop(0)}
        self.waiting.set()
        self.waits += 1
        try:
            await asyncio.Event().wait()
        finally:
            self.waits -= 1
        raise AssertionError("nobody sets it")


class Work:
    """A capture that goes on until it is told to end, and notes how it ended."""

    def __init__(self) -> None:
        self.end = asyncio.Event()
        self.outcome = "not begun"

    async def run(self) -> str:
        self.outcome = "begun"
        try:
            await self.end.wait()
        except asyncio.CancelledError:
            self.outcome = "cancelled"
            raise
        self.outcome = "done"
        return "profile"


def nothing_is_left() -> bool:
    return asyncio.all_tasks() == {asyncio.current_task()}


def test_a_client_that_stays_gets_the_result() -> None:
    async def main() -> None:
        client, work = Client("http.request"), Work()
        answer = asyncio.ensure_future(until_gone(client.receive, work.run()))
        await client.waiting.wait()
        work.end.set()
        assert await answer == "profile"
        assert (work.outcome, client.waits) == ("done", 0)
        assert nothing_is_left()

    asyncio.run(main())


def test_a_client_that_leaves_cancels_the_work() -> None:
    async def main() -> None:
        client, work = Client("http.request", "http.request", "http.disconnect"), Work()
        assert await until_gone(client.receive, work.run()) is None
        assert work.outcome == "cancelled"
        assert nothing_is_left()

    asyncio.run(main())


def test_a_middleware_that_repeats_the_request_does_not_hold_the_loop() -> None:
    async def main() -> None:
        async def repeat() -> Message:
            return {"type": "http.request", "body": b"", "more_body": False}

        async def work() -> str:
            await asyncio.sleep(0.3)
            return "profile"

        assert await asyncio.wait_for(until_gone(repeat, work()), 5) == "profile"

    asyncio.run(main())


def test_a_middleware_that_lets_nobody_see_the_client_loses_no_profile() -> None:
    async def main() -> None:
        async def refuse() -> Message:
            raise RuntimeError("Unexpected message received: http.request")

        async def work() -> str:
            await asyncio.sleep(0.1)
            return "profile"

        assert await until_gone(refuse, work()) == "profile"

    asyncio.run(main())


def test_cancelled_work_is_waited_for() -> None:
    async def main() -> None:
        cleaned = asyncio.Event()

        async def work() -> bool:
            try:
                return await asyncio.Event().wait()
            finally:
                for _ in range(5):
                    await asyncio.sleep(0)
                cleaned.set()

        assert await until_gone(Client("http.disconnect").receive, work()) is None
        assert cleaned.is_set()

    asyncio.run(main())


def test_an_error_of_the_work_comes_out() -> None:
    async def main() -> None:
        client = Client()

        async def fail() -> None:
            raise RuntimeError("no profile")

        with pytest.raises(RuntimeError, match="no profile"):
            await until_gone(client.receive, fail())
        assert client.waits == 0
        assert nothing_is_left()

    asyncio.run(main())


def test_a_server_that_stops_cancels_the_work() -> None:
    async def main() -> None:
        client, work = Client(), Work()
        answer = asyncio.ensure_future(until_gone(client.receive, work.run()))
        await client.waiting.wait()
        answer.cancel()
        with pytest.raises(asyncio.CancelledError):
            await answer
        assert (work.outcome, client.waits) == ("cancelled", 0)
        assert nothing_is_left()

    asyncio.run(main())


def test_a_result_that_is_there_is_given_even_if_the_client_has_just_left() -> None:
    async def main() -> None:
        async def work() -> str:
            return "profile"

        assert await until_gone(Client("http.disconnect").receive, work()) == "profile"

    asyncio.run(main())


def test_a_server_that_is_about_to_end_cancels_the_work() -> None:
    async def main() -> None:
        client, work, ending = Client("http.request"), Work(), asyncio.Event()

        async def server_end() -> None:
            await ending.wait()

        answer = asyncio.ensure_future(until_gone(client.receive, work.run(), server_end()))
        await client.waiting.wait()
        assert work.outcome == "begun"
        ending.set()
        with pytest.raises(EndingError, match="the service is shutting down"):
            await answer
        assert (work.outcome, client.waits) == ("cancelled", 0)
        assert nothing_is_left()

    asyncio.run(main())


def test_a_server_that_ends_is_noticed_behind_a_middleware_that_shows_no_client() -> None:
    async def main() -> None:
        async def refuse() -> Message:
            raise RuntimeError("Unexpected message received: http.request")

        with pytest.raises(EndingError):
            await until_gone(refuse, never(), asyncio.sleep(0.05))

    asyncio.run(main())
