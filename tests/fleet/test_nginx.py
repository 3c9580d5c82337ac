"""Two servers behind nginx, which spreads UDP over them."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.crowd.clients import Client, Crowd
from tests.fleet.conftest import Gather, Serve, in_good_order, on
from tests.fleet.nginx import Nginx

CLIENTS = 200
CASES = [("endpoint", "round robin"), ("blocking", "hash")]
ATTEMPTS = 20
SOON = (0.1, 1, 0.1)  # retransmission, in seconds: twelve losses are soon over


def bring_back(crowd: Crowd, lost: list[Client]) -> None:
    """Has clients begin anew with the sessions of their last connections, until they are in."""
    sessions = {client: client.conn.session for client in lost}
    waiting = lost
    for _ in range(ATTEMPTS):
        for client in waiting:
            client.begin_anew(client.conn.context, sessions[client])
            client.conn.retransmission = SOON
        crowd.run(1, clients=waiting)
        waiting = [client for client in waiting if client.failure is not None]
        for client in waiting:
            crowd.move(client)


@pytest.mark.parametrize(("door", "balance"), CASES)
def test_when_a_server_is_killed_its_clients_come_back_by_way_of_the_other(
    serve: Serve, gather: Gather, tmp_path: Path, door: str, balance: str
) -> None:
    """They have no answer any more, begin anew, and resume; the other's notice nothing.

    From where they are, or, where that is in vain, from another port: since 1.23 nginx goes on sending to a server that
    refuses for as long as its client says anything.
    """
    first, second = serve(door, one_port=False)
    with Nginx(tmp_path, balance, [first.address, second.address]) as nginx:
        crowd = gather(nginx.address, CLIENTS)
        crowd.run(1)
        assert in_good_order(crowd)
        lost, kept = on(first, crowd), on(second, crowd)
        assert len(lost) > CLIENTS // 5
        assert len(kept) > CLIENTS // 5
        connections = [client.conn for client in kept]
        first.kill()
        for client in crowd.clients:
            client.patience, client.tries = 0.1, 20
        crowd.run(1)
        assert [client for client in crowd.clients if client.failure is not None] == lost
        bring_back(crowd, lost)
        crowd.run(1)
        assert in_good_order(crowd)
        assert on(second, crowd) == crowd.clients
        assert all(client.conn.session_reused for client in lost)
        assert [client.conn for client in kept] == connections
