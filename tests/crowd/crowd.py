"""Very many peers at one UDP port of one server process, through each door; all of them exchange data.

    python -m tests.crowd.crowd [--peers N] [--door NAME ...]

Ends with status 1 where a peer does not get in, has no answer, or gets what was meant for another.
"""

from __future__ import annotations

import argparse
import sys

import dtlsffi
from dtlsffi.testing import Authority
from tests.crowd.clients import Client, Crowd, make_room
from tests.crowd.doors import doors
from tests.crowd.servers import QUICK, Server

ROUNDS = 2  # things that each peer says once all are there


def measure(door: str, peers: int) -> dict[str, float]:
    """Has them all shake hands, then all say something; what came of it."""
    make_room(peers)
    authority = Authority()
    context = authority.client_context()
    context.retransmission = QUICK
    with (
        Server(door, authority) as server,
        Crowd(Client(number, server.address, context) for number in range(peers)) as crowd,
    ):
        before = server.statistics()
        shaking = crowd.run()
        between = server.statistics()
        talking = crowd.run(ROUNDS)
        after = server.statistics()
    for failure in crowd.failures()[:3]:
        print(f"a client has given up: {failure!r}")
    return {
        "peers": after["connections"],
        "handshakes took (s)": shaking,
        "handshakes a second": after["handshakes_completed"] / shaking,
        "of the server's processor a handshake (ms)": (between["processor"] - before["processor"]) / peers * 1000,
        "kB a peer": (after["resident"] - before["resident"]) / peers,
        "threads": after["threads"],
        "echoes": crowd.total("echoes"),
        "echoes a second": crowd.total("echoes") / talking,
        "of the server's processor an echo (ms)": (after["processor"] - between["processor"]) / peers / ROUNDS * 1000,
        "echoes lost, and asked for again": crowd.total("lost"),
        "echoes mixed up": crowd.total("mixed"),
        "given up": len(crowd.failures()),
    }


def complaints(result: dict[str, float], peers: int) -> list[str]:
    """What is wrong, unless all are there, and each has heard what it has said."""
    wanted = {"peers": peers, "echoes": peers * ROUNDS, "echoes mixed up": 0, "given up": 0}
    return [f"{name}: {result[name]} in place of {value}" for name, value in wanted.items() if result[name] != value]


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--peers", type=int, default=10_000, metavar="N")
    parser.add_argument("--door", action="append", choices=doors(), help="may be given several times; all by default")
    options = parser.parse_args()
    print(f"{dtlsffi.OPENSSL_VERSION}, Python {sys.version.split()[0]}")
    bad = 0
    for door in options.door or doors():
        result = measure(door, options.peers)
        print(f"\n{door}")
        for name, value in result.items():
            print(f"  {name}: {value:,.{2 if value != int(value) and value < 100 else 0}f}", flush=True)
        for complaint in complaints(result, options.peers):
            print(f"FAILED: {complaint}")
            bad += 1
    return int(bad > 0)


if __name__ == "__main__":
    sys.exit(main())
