"""A Philips Hue entertainment client: streams a rainbow to a bridge over DTLS with a pre-shared key.

The bridge gives out the username and the client key when its button is pressed (POST /api with "generateclientkey"),
the application id in the response to GET /auth/v1, and lists the entertainment configurations under
/clip/v2/resource/entertainment_configuration. Streaming is started there, too, with PUT {"action": "start"}. Then:

    export HUE_CLIENT_KEY=0123456789ABCDEF0123456789ABCDEF
    python hue_stream.py 192.168.1.2 APPLICATION_ID 1a8d99cc-967b-44f2-9202-43f976c0fa6b --channels 5 --seconds 30
"""

from __future__ import annotations

import argparse
import colorsys
import os
import re
import struct
import sys
import time
import uuid

import dtlsffi

RATE = 50  # messages per second, as the bridge wants them: what gets lost is made up for by the next one
PERIOD = 5  # seconds for the rainbow to go round


def message(sequence: int, configuration: str, colours: list[tuple[float, float, float]]) -> bytes:
    """A HueStream message of version 2.0: the colour, RGB from 0 to 1, of each channel."""
    header = struct.pack("!9sBBBxxBx36s", b"HueStream", 2, 0, sequence % 256, 0, configuration.encode("ascii"))
    channels = (struct.pack("!B3H", n, *(round(65535 * part) for part in rgb)) for n, rgb in enumerate(colours))
    return header + b"".join(channels)


def rainbow(seconds: float, channels: int) -> list[tuple[float, float, float]]:
    """What the channels show at a time: all of the rainbow, going round."""
    return [colorsys.hsv_to_rgb((seconds / PERIOD + n / channels) % 1, 1, 1) for n in range(channels)]


def stream(conn: dtlsffi.DTLSSocket, configuration: str, channels: int, frames: int) -> None:
    """Sends frames, each when it is due: being late once makes none of the others late."""
    start = time.monotonic()
    for frame in range(frames):
        time.sleep(max(0.0, start + frame / RATE - time.monotonic()))
        conn.send(message(frame, configuration, rainbow(frame / RATE, channels)))
    print(f"{frames} frames in {time.monotonic() - start:.3f} s")


def client_key(text: str) -> bytes:
    """The key in binary; an error message does not repeat it."""
    if not re.fullmatch("[0-9A-Fa-f]{32}", text):
        raise argparse.ArgumentTypeError("a client key consists of 32 hexadecimal digits")
    return bytes.fromhex(text)


def arguments() -> argparse.Namespace:
    """The command line."""
    parser = argparse.ArgumentParser(description="Streams a rainbow to a Philips Hue bridge.")
    parser.add_argument("bridge", help="its address")
    parser.add_argument("identity", help="the application id; for older bridges the username")
    parser.add_argument("configuration", type=lambda text: str(uuid.UUID(text)), help="its id, a UUID")
    parser.add_argument(
        "--key", type=client_key, default=os.environ.get("HUE_CLIENT_KEY"), help="rather in $HUE_CLIENT_KEY; in hex"
    )
    parser.add_argument("--port", type=int, default=2100)
    parser.add_argument("--channels", type=int, choices=range(1, 21), default=1, metavar="1..20")
    parser.add_argument("--seconds", type=float, default=10.0)
    parser.add_argument("--frames", type=int, help="how many to send, in place of --seconds")
    parser.add_argument("--timeout", type=float, default=5.0, help="seconds for the handshake")
    options = parser.parse_args()
    if options.key is None:
        parser.error("no client key: set HUE_CLIENT_KEY")
    return options


def main() -> None:
    """Connects, streams, and closes."""
    options = arguments()
    context = dtlsffi.DTLSContext(dtlsffi.PROTOCOL_DTLS_CLIENT)
    context.set_ciphers("PSK-AES128-GCM-SHA256")  # no certificates: who has the key is the bridge
    context.set_psk_client_callback(lambda _hint: (options.identity, options.key))
    frames = round(options.seconds * RATE) if options.frames is None else options.frames
    address = (options.bridge, options.port)
    try:
        with dtlsffi.create_connection(address, context=context, timeout=options.timeout) as conn:
            print(conn.version(), conn.cipher(), conn.psk_identity)
            stream(conn, options.configuration, options.channels, frames)
    except OSError as error:  # as every DTLSError is
        sys.exit(f"hue_stream: {error}")


if __name__ == "__main__":
    main()
