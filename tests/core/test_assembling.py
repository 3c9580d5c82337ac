"""dtlsffi.core.assembling: ClientHellos in fragments; through the endpoint in test_cookies.py and test_admission.py."""

from __future__ import annotations

import random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from dtlsffi.core.address import key, pack
from dtlsffi.core.assembling import AT_MOST, OF_ONE_HOST, PATIENCE, Assemblies
from dtlsffi.core.cookies import RECORDS_AT_MOST

KEY, PROOF = b"key", b"proof"


def whole(length: int, sequence: int = 1) -> bytes:
    """A record with a message of so many bytes that looks like a ClientHello."""
    body = random.Random(length).randbytes(length)
    size = length.to_bytes(3, "big")
    message = b"\x01" + size + sequence.to_bytes(2, "big") + bytes(3) + size + body
    return b"\x16\xfe\xfd" + bytes(8) + len(message).to_bytes(2, "big") + message


def piece(record: bytes, begin: int, end: int) -> bytes:
    """A part of it, in a record of its own."""
    body = record[25 + begin : 25 + end]
    message = record[13:19] + begin.to_bytes(3, "big") + len(body).to_bytes(3, "big") + body
    return record[:11] + len(message).to_bytes(2, "big") + message


def begun(record: bytes, end: int) -> Assemblies:
    """One of which the first part is there."""
    assemblies = Assemblies()
    first = piece(record, 0, end)
    assemblies.begin(KEY, first, PROOF, 0, proven=True)
    assert assemblies.add(KEY, first) is None
    return assemblies


@given(st.data())
def test_it_is_what_it_would_have_been_in_one_piece(data: st.DataObject) -> None:
    """In whatever order its parts come, how they overlap, and how many share a datagram."""
    length = data.draw(st.integers(2, 300))
    record = whole(length)
    cuts = sorted(data.draw(st.sets(st.integers(1, length - 1), min_size=1, max_size=8)))
    assemblies = begun(record, cuts[0])
    overlaps = st.integers(0, 20)
    parts = [
        piece(record, max(0, begin - data.draw(overlaps)), min(length, end + data.draw(overlaps)))
        for begin, end in zip(cuts, [*cuts[1:], length], strict=True)
    ]
    parts = data.draw(st.permutations(parts))
    found = [answer for part in parts if KEY in assemblies and (answer := assemblies.add(KEY, part)) is not None]
    ((joined, assembly),) = found
    assert joined == record
    assert (assembly.proof, assembly.proven) == (PROOF, True)
    assert len(assemblies) == 0
    together = begun(record, cuts[0])
    answer = together.add(KEY, b"".join(parts))
    assert answer is not None
    assert answer[0] == record


@given(st.binary(max_size=80))
def test_whatever_comes_in_its_name_ends_nothing(data: bytes) -> None:
    """Junk is passed over, wherever it is in a datagram."""
    record = whole(100)
    for mixed in (data, piece(record, 50, 60) + data, b"\x16\xfe\xfd" + bytes(8) + data):
        assemblies = begun(record, 50)
        assemblies.add(KEY, mixed)
        answer = assemblies.add(KEY, piece(record, 50, 100))
        assert answer is not None
        assert answer[0] == record


def test_what_came_first_counts_and_another_message_does_not() -> None:
    """Nobody writes over it, nor into it by another number or length."""
    record, other, longer = whole(100), whole(100, sequence=2), whole(101)
    assemblies = begun(record, 50)
    for foreign in (other, longer):
        assert assemblies.add(KEY, piece(foreign, 50, 100)) is None
    forged = record[:25] + bytes(100)
    assert assemblies.add(KEY, piece(forged, 20, 50)) is None
    answer = assemblies.add(KEY, piece(record, 40, 100))
    assert answer is not None
    assert answer[0] == record


@pytest.mark.parametrize(("begin", "end"), [(90, 101), (101, 102)])
def test_what_does_not_fit_is_passed_over(begin: int, end: int) -> None:
    """Beyond the end of the message."""
    assemblies = begun(whole(100), 50)
    body = bytes(end - begin)
    message = whole(100)[13:19] + begin.to_bytes(3, "big") + len(body).to_bytes(3, "big") + body
    assert assemblies.add(KEY, whole(100)[:11] + len(message).to_bytes(2, "big") + message) is None


def of_host(number: int, port: int = 1) -> bytes:
    return key(pack((f"10.0.{number // 250}.{number % 250 + 1}", port)))


def test_there_are_so_many_and_for_so_long() -> None:
    """The oldest makes room, and goes when its time is over; one from the same address takes the other's place."""
    assemblies = Assemblies()
    record = whole(100)
    first = piece(record, 0, 50)
    for number in range(AT_MOST + 5):
        assemblies.begin(of_host(number), first, PROOF, 0, proven=True)
    assert len(assemblies) == AT_MOST
    assert of_host(4) not in assemblies
    assert of_host(5) in assemblies
    assert assemblies.are_waited_for(PATIENCE / 2)
    assert not assemblies.are_waited_for(PATIENCE)
    late = of_host(999)
    assemblies.begin(late, first, PROOF, PATIENCE, proven=True)
    assert len(assemblies) == 1
    assert assemblies.add(late, piece(record, 50, 70)) is None
    assemblies.begin(late, first, PROOF, PATIENCE, proven=True)  # said again: what is there stays
    assert assemblies.add(late, piece(record, 70, 90)) is None
    for other, proof in ((first, b"another"), (piece(whole(101), 0, 50), PROOF)):
        assemblies.begin(late, other, proof, PATIENCE, proven=True)
        assert assemblies.add(late, piece(record, 90, 100)) is None


def test_one_host_throws_out_its_own() -> None:
    """However many ports it has."""
    assemblies = Assemblies()
    first = piece(whole(100), 0, 50)
    assemblies.begin(of_host(0), first, PROOF, 0, proven=True)
    for port in range(1, AT_MOST + 1):
        assemblies.begin(of_host(1, port), first, PROOF, 0, proven=True)
    assert of_host(0) in assemblies
    assert len(assemblies) == 1 + OF_ONE_HOST


def test_many_records_in_one_datagram_are_no_honest_clients() -> None:
    """Those beyond the first few are not looked at."""
    record = whole(1000)
    assemblies = begun(record, 100)
    assert assemblies.add(KEY, b"".join(piece(record, at, at + 1) for at in range(100, 1000))) is None
    assert assemblies.add(KEY, piece(record, 100 + RECORDS_AT_MOST, 1000)) is not None
