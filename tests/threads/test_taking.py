"""One Connection, several threads that take what there is to send: a listener's, and those that send themselves."""

from __future__ import annotations

import sys
import threading

from dtlsffi.testing import MemoryLink


def is_in(thread: threading.Thread, function: str) -> bool:
    """Whether a thread is at work in a function."""
    frame = sys._current_frames().get(thread.ident or 0)
    while frame is not None and frame.f_code.co_name != function:
        frame = frame.f_back
    return frame is not None


def test_what_another_thread_has_taken_meanwhile_is_not_there_any_more(joined: MemoryLink) -> None:
    """Both have seen that there is something: one gets it, the other nothing."""
    client, taken = joined.client, []
    client.send(b"once")
    late = threading.Thread(target=lambda: taken.append(client.datagrams_to_send()))
    with client._locked():
        late.start()
        while not is_in(late, "_locked"):
            pass
        assert len(client.datagrams_to_send()) == 1
    late.join()
    assert taken == [[]]
