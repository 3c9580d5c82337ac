"""A client whose path turns out to be narrower than its link: what it prints is for test_narrow_path.py."""

from __future__ import annotations

import asyncio
import json
import sys
from typing import Any

import dtlsffi
import dtlsffi.asyncio

PORT = 7777


def blocking(host: str, context: dtlsffi.DTLSContext, server_hostname: str) -> dict[str, Any]:
    with dtlsffi.create_connection((host, PORT), context=context, server_hostname=server_hostname, timeout=10) as conn:
        before, said = (conn.mtu, conn.data_mtu), ""
        conn.send(bytes(min(1400, conn.data_mtu or 0)))
        try:
            conn.recv()
        except dtlsffi.DatagramTooLarge as error:
            said = str(error)
        after = conn.mtu, conn.data_mtu
        conn.send(bytes(conn.data_mtu or 0))
        return {"before": before, "said": said, "after": after, "came": len(conn.recv())}


async def awaited(host: str, context: dtlsffi.DTLSContext, server_hostname: str) -> dict[str, Any]:
    async with await dtlsffi.asyncio.connect(host, PORT, context=context, server_hostname=server_hostname) as conn:
        before, said = (conn.mtu, conn.data_mtu), ""
        await conn.send(bytes(min(1400, conn.data_mtu or 0)))
        try:
            await conn.recv()
        except dtlsffi.DatagramTooLarge as error:
            said = str(error)
        after = conn.mtu, conn.data_mtu
        await conn.send(bytes(conn.data_mtu or 0))
        return {"before": before, "said": said, "after": after, "came": len(await conn.recv())}


if __name__ == "__main__":
    door, host, authority, name, *own = sys.argv[1:]
    trusting = dtlsffi.create_default_context(cafile=authority)
    if own:
        trusting.load_cert_chain(*own)
    if door == "blocking":
        print(json.dumps(blocking(host, trusting, name)))
    else:
        print(json.dumps(asyncio.run(awaited(host, trusting, name))))
