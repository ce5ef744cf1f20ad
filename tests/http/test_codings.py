"""Which content coding an answer has, by what the client says it can read."""

from __future__ import annotations

import gzip

import pytest
import zstandard

from pyprof_agent.http.codings import GZIP, IDENTITY, ZSTD, chosen


@pytest.mark.parametrize(
    "accepted",
    [
        "zstd",
        "ZSTD",
        "gzip, deflate, br, zstd",
        "zstd;q=0.1",
        " zstd ; Q=1.000 ",
        "gzip,zstd;q=.5x,zstd",
    ],
)
def test_zstd_where_it_is_named(accepted: str) -> None:
    assert chosen(accepted, (ZSTD, GZIP)) is ZSTD


@pytest.mark.parametrize(
    "accepted",
    ["", "*", "*;q=1", "identity", "zstd;q=0", "zstd;q=0.000", "zstd;q=", "zstd;q=x", "zstd;q=2",
     "zstd;q=-1", "zstd;q=nan", "zstd;level=3", "xzstd", "zstdx", "zstd gzip", ";q=1", ",,"],
)  # fmt: skip
def test_neither_where_none_is_named_or_wanted(accepted: str) -> None:
    assert chosen(accepted, (ZSTD, GZIP)) is IDENTITY


def test_only_what_is_offered() -> None:
    assert chosen("gzip, zstd", (GZIP,)) is GZIP
    assert chosen("gzip", (ZSTD,)) is IDENTITY
    assert chosen("gzip, zstd;q=0", (ZSTD, GZIP)) is GZIP


def test_what_is_compressed_can_be_read() -> None:
    data = b"stack " * 1000
    assert zstandard.ZstdDecompressor().decompress(ZSTD.compress(data)) == data
    assert gzip.decompress(GZIP.compress(data)) == data
    assert IDENTITY.compress(data) is data
