"""Compressed bodies, however they are cut."""

from __future__ import annotations

import gzip
import zlib

import brotli
import pytest
from hypothesis import given
from hypothesis import strategies as st

from flatout.errors import ProtocolError
from flatout.transports.unpack import STEP, unpacker

try:
    from compression import zstd
except ImportError:
    from backports import zstd


def bare(data: bytes) -> bytes:
    packer = zlib.compressobj(wbits=-zlib.MAX_WBITS)
    return packer.compress(data) + packer.flush()


def unpack(coding: str, packed: bytes) -> bytes:
    made = unpacker(coding)
    data = b"".join(made.feed(packed))
    made.check_end()
    return data


PACKERS = {
    "gzip": gzip.compress,
    "x-gzip": lambda data: gzip.compress(data[:7]) + gzip.compress(data[7:]),
    "deflate": zlib.compress,
    "Deflate": bare,
    "br": brotli.compress,
    "zstd": zstd.compress,
    "ZSTD": lambda data: zstd.compress(data[:7]) + zstd.compress(data[7:]),
    "identity": bytes,
}


@pytest.mark.parametrize("coding", PACKERS)
@given(data=st.binary(max_size=2_000), cuts=st.lists(st.integers(0, 400), max_size=8))
def test_a_packed_body_is_unpacked_however_it_is_cut(coding, data, cuts):
    """An answer that was paid for would be unreadable behind a gateway that compresses."""
    packed = PACKERS[coding](data)
    unpacked = unpacker(coding)
    got, begin = b"", 0
    for cut in [*sorted(cuts), len(packed)]:
        got += b"".join(unpacked.feed(packed[begin:cut]))
        begin = max(begin, cut)
    unpacked.check_end()
    assert got == data


@pytest.mark.parametrize("coding", [coding for coding in PACKERS if coding != "identity"])
def test_a_bomb_unpacks_in_steps(coding):
    """A few kilobytes would fill the memory before anybody looked at how much there is."""
    packed = PACKERS[coding](bytes(50_000_000))
    sizes = [len(piece) for piece in unpacker(coding).feed(packed)]
    assert sum(sizes) == 50_000_000
    assert max(sizes) <= 4 * STEP


@pytest.mark.parametrize("coding", [coding for coding in PACKERS if coding != "identity"])
def test_a_body_that_is_not_what_it_says_is_a_named_error(coding):
    """A cut answer would be taken for a whole one, or end the call with a stranger's exception."""
    packed = PACKERS[coding](b"an answer of some length" * 100)
    for wrong in (b"not packed", packed[:-3], b""):
        with pytest.raises(ProtocolError, match="promises"):
            unpack(coding, wrong)


@pytest.mark.parametrize("coding", ["utf-8", "", " ", "none", "identity, UTF-8", "x" * 1_000])
def test_what_is_no_coding_changes_nothing(coding):
    """An answer would be lost, though paid for and readable, since its server misunderstands a header."""
    assert unpack(coding, b"plain") == b"plain"


@pytest.mark.parametrize("coding", ["identity, gzip", "gzip,", "GZIP "])
def test_one_coding_among_none_is_unpacked(coding):
    """A gateway that names each of its steps would make every answer unreadable."""
    assert unpack(coding, gzip.compress(b"plain")) == b"plain"


@pytest.mark.parametrize("coding", ["compress", "gzip, br", "gzip, " * 1_000 + "gzip"])
def test_an_unknown_coding_is_named(coding):
    """Compressed bytes would be read as text."""
    with pytest.raises(ProtocolError, match="was not asked for") as caught:
        unpacker(coding)
    assert len(str(caught.value)) < 120
