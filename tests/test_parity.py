"""docs/ssl-parity.md against ssl, against dtlsffi, and against the tests."""

from __future__ import annotations

import re
import ssl
from functools import cache
from pathlib import Path

import pytest

import dtlsffi
from dtlsffi.core import same

ROOT = Path(__file__).parent.parent
TEXT = (ROOT / "docs" / "ssl-parity.md").read_text()
MARKS = {"as is", "changed", "does not apply"}
CLASSES = {
    "SSLContext": dtlsffi.DTLSContext,
    "SSLSocket": dtlsffi.DTLSSocket,
    "SSLObject": dtlsffi.DTLSObject,
    "MemoryBIO": dtlsffi.MemoryBIO,
    "SSLSession": dtlsffi.DTLSSession,
}


def sections() -> dict[str, dict[str, tuple[str, str]]]:
    """The tables: section -> name -> (mark, how)."""
    found: dict[str, dict[str, tuple[str, str]]] = {}
    for part in TEXT.split("\n## ")[1:]:
        title = part.splitlines()[0]
        place = "ssl" if title == "The module" else title.split("`")[1]
        rows = re.findall(r"^\| `(\w+)` \| ([\w ]+) \| (.*?) ?\|$", part, re.MULTILINE)
        found[place] = found.get(place, {}) | {name: (mark, how) for name, mark, how in rows if mark != "in dtlsffi"}
    return found


TABLES = sections()
ROWS = [(place, name, *TABLES[place][name]) for place in ("ssl", *CLASSES) for name in TABLES[place]]


@cache
def words_in_tests() -> set[str]:
    """Every word in the tests but this one's."""
    sources = [path for path in (ROOT / "tests").rglob("*.py") if path.name != Path(__file__).name]
    return {word for path in sources for word in re.findall(r"\w+", path.read_text())}


def ours(place: str) -> object:
    return dtlsffi if place == "ssl" else CLASSES[place]


@pytest.mark.parametrize("place", ["ssl", *CLASSES])
def test_every_name_of_ssl_is_listed(place: str) -> None:
    """That of the Python that runs; the list may know more."""
    theirs = ssl if place == "ssl" else getattr(ssl, place)
    assert {name for name in dir(theirs) if not name.startswith("_")} <= TABLES[place].keys()


@pytest.mark.parametrize(("place", "name", "mark", "how"), ROWS, ids=lambda value: str(value)[:24])
def test_every_row_is_true(place: str, name: str, mark: str, how: str) -> None:
    """As is: there by that name. Changed: how is said, and what takes its place is there. And each is tested."""
    assert mark in MARKS
    if mark == "does not apply":
        assert how
        assert not hasattr(ours(place), name) or place == "SSLSocket"
        return
    if mark == "as is":
        assert hasattr(ours(place), name)
        assert name in words_in_tests() or name in same.__all__, f"no test mentions {name}"
        return
    assert how
    instead = re.findall(r"`(?:\w+\.)?([A-Za-z]\w+)`", how)
    places = (dtlsffi, dtlsffi.DTLSContext, ours(place))
    there = [word for word in (name, *instead) if any(hasattr(where, word) for where in places)]
    assert there, f"neither {name} nor any of {instead} is there"
    assert set(there) & words_in_tests(), f"no test mentions {there}"


def test_what_ssl_lacks_is_there() -> None:
    """The last section."""
    words = set(re.findall(r"`(?:\w+\.)?(\w+)=?`", TEXT.partition("## What `ssl` does not have")[2]))
    parameters = {"verify_fingerprint", "verify_public_key"}
    everywhere = [dtlsffi, dtlsffi.DTLSContext, dtlsffi.DTLSSocket, dtlsffi.DTLSSession]
    missing = {word for word in words - parameters - {"ssl"} if not any(hasattr(place, word) for place in everywhere)}
    assert not missing
    assert words - {"ssl"} <= words_in_tests()
