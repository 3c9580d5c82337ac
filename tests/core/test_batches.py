"""dtlsffi.core.batches: memory that is lent, and what goes in and out of it."""

from __future__ import annotations

import os
import subprocess
import sys

import pytest

from dtlsffi import Connection
from dtlsffi.core.batches import Pool, do_without
from dtlsffi.testing import MemoryLink


def test_a_piece_is_made_when_there_is_none() -> None:
    """And lent again when it has come back."""
    made = []

    def make_one() -> object:
        made.append(object())
        return made[-1]

    pool = Pool(make_one)  # type: ignore[arg-type]
    first, second = pool.take(), pool.take()
    pool.give_back(first)
    assert pool.take() is first
    assert made == [first, second]


def test_buffers_are_sent_whatever_they_are(joined: MemoryLink) -> None:
    """Bytes, arrays, views of other items than bytes."""
    data = [b"one", bytearray(b"two"), memoryview(b"thr ee!!").cast("I")]
    assert joined.client.send_many(data) == 3
    joined.server.receive_datagrams([memoryview(datagram) for datagram in joined.client.datagrams_to_send()])
    assert joined.server.data_received() == [b"one", b"two", b"thr ee!!"]
    joined.client.send_many([b"a"])
    (datagram,) = joined.client.datagrams_to_send()
    joined.server.receive_datagrams([memoryview(datagram).cast("H"), b""] if len(datagram) % 2 == 0 else [datagram])
    assert joined.server.data_received() == [b"a"]


@pytest.mark.parametrize(
    ("bad", "error"), [([b"x", b""], ValueError), ([b"x", "text"], TypeError), ([None], TypeError), ([5], TypeError)]
)
def test_what_cannot_be_sent_is_said(bad: list[object], error: type[Exception], joined: MemoryLink) -> None:
    """Before anything is."""
    with pytest.raises(error, match=r"datagram"):
        joined.client.send_many(bad)  # type: ignore[arg-type]
    assert joined.client.datagrams_to_send() == []


@pytest.mark.parametrize("count", [0, 1, 2, 63, 64, 65, 200])
@pytest.mark.parametrize("lengths", [[7], [1], [3, 5], [900, 1], [1100]])
def test_records_come_out_as_they_went_in(count: int, lengths: list[int], joined: MemoryLink) -> None:
    """However many, of one length or of several."""
    records = [bytes([number]) * lengths[number % len(lengths)] for number in range(count)]
    assert joined.client.send_many(records) == count
    joined.server.receive_datagrams(joined.client.datagrams_to_send())
    assert joined.server.data_received() == records


def test_a_connection_seals_and_opens_by_the_batch(joined: MemoryLink) -> None:
    """send_many is send for each; how many have gone is said where the next is too large."""
    client, server = joined.client, joined.server
    data = [b"%d" % number for number in range(100)]
    assert client.send_many(iter(data)) == 100
    datagrams = client.datagrams_to_send()
    assert len(datagrams) == 100
    server.receive_datagrams(datagrams)
    assert server.data_received() == data
    assert client.send_many([b"x", b"y" * 20_000, b"z"]) == 1
    with pytest.raises(OSError, match="do not fit"):
        client.send_many([b"y" * 20_000])
    assert client.send_many([]) == 0
    server.receive_datagrams([])
    assert client.statistics()["records_sent"] == 101


def test_a_batch_holds_junk_too(joined: MemoryLink) -> None:
    """It is counted and dropped, and what follows it is not."""
    client, server = joined.client, joined.server
    client.send_many([b"one", b"two"])
    first, second = client.datagrams_to_send()
    server.receive_datagrams([first, b"junk", first, b"", second, bytes(50)])
    assert server.data_received() == [b"one", b"two"]
    counts = server.statistics()
    assert (counts["dropped_junk"], counts["dropped_replayed"]) == (2, 1)


def test_a_batch_ends_a_connection_like_any_datagram(joined: MemoryLink) -> None:
    """close_notify in the middle of it: what came before is there."""
    client, server = joined.client, joined.server
    client.send(b"last words")
    client.close()
    server.receive_datagrams(client.datagrams_to_send())
    assert server.data_received() == [b"last words"]
    with pytest.raises(OSError, match="after the handshake only"):
        Connection(client.context, server_hostname="x.example").send_many([b"early"])


def test_a_kernels_gifts_can_be_refused() -> None:
    """By name, from the environment; an unknown name is said at once."""
    with pytest.raises(ValueError, match="DTLSFFI_WITHOUT names .*, not tso"):
        do_without(["gro", "tso"])
    command = [sys.executable, "-c", "import dtlsffi"]
    result = subprocess.run(
        command, env={**os.environ, "DTLSFFI_WITHOUT": "everything"}, capture_output=True, text=True, check=False
    )
    assert "not everything" in result.stderr
    subprocess.run(command, env={**os.environ, "DTLSFFI_WITHOUT": "gso,gro,df"}, check=True)
