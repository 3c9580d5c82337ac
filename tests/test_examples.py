"""The scripts of examples/, run as they stand, over UDP on loopback. One more is in test_example_demux.py."""

from __future__ import annotations

import datetime
import os
import re
import socket
import struct
import sys
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import NamedTuple

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec

import dtlsffi
from dtlsffi.testing import Authority, Identity
from tests.interop.programs import Files, Program, free_port, wait_until_bound

EXAMPLES = Path(__file__).parent.parent / "examples"
PYTHON = [sys.executable, "-X", "dev", "-W", "error"]


class Example(Program):
    """A script of examples/, running."""

    def __init__(self, name: str, *arguments: str) -> None:
        super().__init__([*PYTHON, str(EXAMPLES / name), *arguments])

    def finished(self, status: int = 0) -> str:
        """Waits for its end, which is to have this status; returns everything printed."""
        assert (self.result(), self._drained()) == (status, True), self.output
        assert "Traceback" not in self.output
        assert "Warning" not in self.output
        return self.output

    def _drained(self) -> bool:
        with self._changed:
            return self._changed.wait_for(lambda: self._ended, 15)


def test_every_example_is_run_here() -> None:
    """And says in its docstring how."""
    names = {"hue_stream.py", "webrtc_demux.py", "webrtc_srtp.py", "syslog_sender.py"}
    assert {path.name for path in EXAMPLES.glob("*.py")} == names
    for path in EXAMPLES.glob("*.py"):
        assert f"python {path.name} " in path.read_text().split('"""')[1]


# ---- hue_stream.py ----

KEY = "0123456789abcdef0123456789ABCDEF"
CONFIGURATION = "1a8d99cc-967b-44f2-9202-43f976c0fa6b"
WHOSE = "application-id"


class Frame(NamedTuple):
    """A HueStream message, taken apart byte by byte."""

    sequence: int
    colours: dict[int, tuple[int, int, int]]


def frame(data: bytes, channels: int) -> Frame:
    assert len(data) == 16 + 36 + 7 * channels
    assert data[:11] == b"HueStream\x02\x00"
    assert data[12:16] == bytes(4)
    assert data[16:52] == CONFIGURATION.encode()
    parts = [data[52 + 7 * n : 59 + 7 * n] for n in range(channels)]
    return Frame(data[11], {part[0]: struct.unpack(">HHH", part[1:]) for part in parts})


def hue(port: int, *arguments: str) -> Example:
    return Example("hue_stream.py", "127.0.0.1", WHOSE, CONFIGURATION, "--port", str(port), *arguments)


@pytest.fixture(autouse=True)
def hue_client_key(monkeypatch: pytest.MonkeyPatch) -> None:
    """The key is where ps(1) does not show it."""
    monkeypatch.setenv("HUE_CLIENT_KEY", KEY)


def check_frames(frames: list[Frame]) -> None:
    """Of three channels: the rainbow begins with red, green and blue, and goes round once in 250 frames."""
    assert [one.sequence for one in frames] == [number % 256 for number in range(len(frames))]
    assert frames[0].colours == {0: (65535, 0, 0), 1: (0, 65535, 0), 2: (0, 0, 65535)}
    assert frames[5].colours == {0: (65535, 7864, 0), 1: (0, 65535, 7864), 2: (7864, 0, 65535)}


def test_hue_streams_to_openssl() -> None:
    """Every frame comes, as a bridge wants it, at 50 a second; then close_notify."""
    port = free_port()
    command = f"openssl s_server -dtls -accept 127.0.0.1:{port} -naccept 1 -nocert -psk {KEY} -psk_identity {WHOSE}"
    with Program([*command.split(), "-cipher", "PSK-AES128-GCM-SHA256"]) as bridge:
        wait_until_bound(port)
        with hue(port, "--channels", "3", "--frames", "20") as client:
            printed = client.finished()
        bridge.expect("CONNECTION CLOSED")
        shown = bytes(bridge._output)
    assert b"PSK warning" not in shown  # of an identity that was not expected
    assert b"CIPHER is PSK-AES128-GCM-SHA256" in shown
    assert b"DONE" in shown
    _, *rest = shown.split(b"HueStream")
    frames = [frame(b"HueStream" + data[: 16 + 36 + 7 * 3 - 9], 3) for data in rest]
    assert len(frames) == 20
    check_frames(frames)
    spent = re.search(r"20 frames in ([\d.]+) s\n", printed)
    assert printed.startswith(f"DTLSv1.2 ('PSK-AES128-GCM-SHA256', 'TLSv1.2', 128) {WHOSE}\n")
    assert spent is not None
    assert float(spent[1]) >= 19 / 50


Received = tuple[str | None, tuple[str, str, int] | None, list[bytes]]


def bridge(sock: socket.socket) -> Received:
    """A bridge of our own, for one client: who it was, how it spoke, what it sent."""
    context = dtlsffi.DTLSContext(dtlsffi.PROTOCOL_DTLS_SERVER)
    context.set_psk_server_callback({WHOSE: bytes.fromhex(KEY)}.get)
    context.set_ciphers("ECDHE-PSK-CHACHA20-POLY1305:PSK-AES128-GCM-SHA256")
    context.retransmission = (0.1, 2.0, 1.0)
    sock.settimeout(10)
    _, client = sock.recvfrom(1, socket.MSG_PEEK)
    sock.connect(client)
    with context.wrap_socket(sock, server_side=True) as conn:
        return conn.psk_identity, conn.cipher(), list(iter(conn.recv, b""))


def test_hue_streams_to_dtlsffi() -> None:
    """Under its identity, one frame a datagram, for as long as it is told; the sequence number wraps at 256."""
    with ThreadPoolExecutor() as pool, socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sock:
        sock.bind(("127.0.0.1", 0))
        port = sock.getsockname()[1]
        served = pool.submit(bridge, sock)
        with hue(port, "--channels", "3", "--seconds", "0.5") as client:
            assert "25 frames in 0." in client.finished()
        identity, cipher, datagrams = served.result()
    assert identity == WHOSE
    assert cipher is not None
    assert cipher[0] == "PSK-AES128-GCM-SHA256"
    assert len(datagrams) == 25
    check_frames([frame(data, 3) for data in datagrams])


def test_hue_with_a_wrong_key_gets_nowhere() -> None:
    """And says what may be the cause."""
    with ThreadPoolExecutor() as pool, socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sock:
        sock.bind(("127.0.0.1", 0))
        port = sock.getsockname()[1]
        served = pool.submit(bridge, sock)
        with hue(port, "--timeout", "0.5", "--key", "00" * 16) as client:
            printed = client.finished(1)
        assert isinstance(served.exception(), OSError)
    assert "different pre-shared keys" in printed
    assert "frames" not in printed


def test_hue_does_not_repeat_a_key_that_is_none() -> None:
    """Not even in an error message."""
    with hue(1, "--key", "not-quite-hexadecimal") as client:
        printed = client.finished(2)
    assert "32 hexadecimal digits" in printed
    assert "not-quite" not in printed


# ---- webrtc_srtp.py ----

PASTE = "Paste the other side's lines here:\n"


def self_signed(name: str) -> tuple[Identity, str]:
    """A certificate as WebRTC has them, and its fingerprint."""
    key = ec.generate_private_key(ec.SECP256R1())
    subject = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, name)])
    now = datetime.datetime.now(datetime.timezone.utc)
    certificate = (
        x509.CertificateBuilder()
        .subject_name(subject)
        .issuer_name(subject)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - datetime.timedelta(days=1))
        .not_valid_after(now + datetime.timedelta(days=1))
        .sign(key, hashes.SHA256())
    )
    private = key.private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    )
    digest = certificate.fingerprint(hashes.SHA256()).hex(":").upper()
    return Identity(certificate.public_bytes(serialization.Encoding.PEM), private), f"sha-256 {digest}"


def webrtc(role: str, *arguments: str) -> Example:
    return Example("webrtc_srtp.py", role, *arguments)


def introduce(one: Example, other: Example, alter: Callable[[str], str] = str) -> None:
    """Tells `one` what `other` has printed."""
    printed = other.expect(PASTE)
    one.say(alter(printed.replace(PASTE, "")).rstrip("\n"))


def facts(printed: str) -> dict[str, str]:
    """What a side reports after its handshake."""
    return dict(re.findall(r"^(\w[\w -]+): (.+)$", printed.partition(PASTE)[2], re.MULTILINE))


def test_webrtc_both_sides_have_the_same_keys(tmp_path: Path) -> None:
    """Each knows the other's certificate; of the keys only lengths and a hash are told."""
    files = Files(tmp_path)
    (ours, our_fingerprint), (theirs, their_fingerprint) = self_signed("active"), self_signed("passive")
    with (
        webrtc("active", "--cert", files.write(ours.certificate), "--key", files.write(ours.key)) as active,
        webrtc("passive", "--cert", files.write(theirs.certificate + theirs.key)) as passive,
    ):
        introduce(active, passive)
        introduce(passive, active)
        printed = active.finished(), passive.finished()
    assert f"a=setup:active\na=fingerprint:{our_fingerprint}\n" in printed[0]
    assert f"a=setup:passive\na=fingerprint:{their_fingerprint}\n" in printed[1]
    told = [facts(text) for text in printed]
    assert [side.pop("peer") for side in told] == [their_fingerprint, our_fingerprint]
    assert told[0] == told[1]
    assert set(told[0]) == {"profile", "lengths", "SHA-256 of the keys"}
    assert told[0]["profile"] == "SRTP_AEAD_AES_128_GCM"
    assert told[0]["lengths"] == "client_key 16, server_key 16, client_salt 12, server_salt 12"
    assert re.fullmatch("[0-9a-f]{64}", told[0]["SHA-256 of the keys"])


def test_webrtc_makes_a_certificate_of_its_own() -> None:
    """A new one each time, and so are the keys new."""
    seen = []
    with webrtc("active") as active, webrtc("passive") as passive:
        introduce(active, passive)
        introduce(passive, active)
        seen = [facts(side.finished()) for side in (active, passive)]
    assert seen[0]["peer"] != seen[1]["peer"]
    assert seen[0]["SHA-256 of the keys"] == seen[1]["SHA-256 of the keys"]


@pytest.mark.parametrize("told_wrong", ["active", "passive"])
def test_webrtc_a_wrong_fingerprint_is_refused(told_wrong: str) -> None:
    """By the side that it was told to; the other one, too, gets no keys."""
    _, wrong = self_signed("impostor")
    with webrtc("active") as active, webrtc("passive") as passive:
        victim, other = (active, passive) if told_wrong == "active" else (passive, active)
        introduce(victim, other, lambda text: re.sub("sha-256 [0-9A-F:]+", wrong, text))
        introduce(other, victim)
        refusal, bystander = victim.finished(1), other.finished(1)
    right = re.search("a=fingerprint:(.+)", bystander)
    assert right is not None
    assert f"it is {right[1]}, not {wrong}" in refusal
    assert re.search(r"ended the handshake: \w+ \(alert \d+\)", bystander)  # once its timer had run out
    for printed in (refusal, bystander):
        assert "profile" not in printed
        assert "SHA-256 of the keys" not in printed


def test_webrtc_two_of_the_same_role_do_not_meet() -> None:
    """Two clients would wait for ever."""
    with webrtc("active") as one, webrtc("active") as other:
        introduce(one, other)
        one.end_input()
        assert "a=setup:passive" in one.finished(1)


# ---- syslog_sender.py ----

RFC5424 = re.compile(r"<(\d+)>1 (\S+) (\S+) (\S+) (\d+) - - (.*)")


class Certificates:
    """What the two sides of syslog are given."""

    def __init__(self, directory: Path, authority: Authority, stranger: Authority) -> None:
        self._files = Files(directory)
        self.authority = self._files.write(authority.certificate)
        self.receiver = self._arguments(authority.issue("localhost", "127.0.0.1"))
        self.elsewhere = self._arguments(authority.issue("other.example"))
        self.sender = self._arguments(authority.issue("sender.example"))
        self.stranger = self._arguments(stranger.issue("sender.example"))

    def _arguments(self, identity: Identity) -> tuple[str, ...]:
        certificate, key = self._files.write(identity.certificate), self._files.write(identity.key)
        return "--ca", self.authority, "--cert", certificate, "--key", key


@pytest.fixture
def certificates(tmp_path: Path, authority: Authority, stranger: Authority) -> Certificates:
    return Certificates(tmp_path, authority, stranger)


def receiver(arguments: tuple[str, ...]) -> Example:
    return Example("syslog_sender.py", "127.0.0.1", "--listen", "--port", "0", *arguments)


def port_of(listening: Example) -> str:
    found = re.search(r"listening on port (\d+)\n", listening.expect("\n"))
    assert found is not None
    return found[1]


def sender(port: str, arguments: tuple[str, ...], *more: str) -> Example:
    return Example("syslog_sender.py", "localhost", "--port", port, *arguments, *more)


def test_syslog_lines_arrive(certificates: Certificates) -> None:
    """Each as a message of RFC 5424, in order; what a terminal would obey is escaped, what is too long is cut."""
    with receiver(certificates.receiver) as listening:
        with sender(port_of(listening), certificates.sender, "--level", "ERROR") as sending:
            for line in ("disk full", "100 % of it", "gr\u00fc\u00dfe", "red \x1b[31m", "\u20ac" * 10000):
                sending.say(line)
            sending.end_input()
            assert sending.finished() == ""
        first, second, *lines = listening.finished().splitlines()
    assert first.startswith("listening on port ")
    assert re.fullmatch(r"the sender is sha-256 [0-9A-F:]{95} \(\('DNS', 'sender.example'\),\)", second)
    found = [RFC5424.fullmatch(line) for line in lines]
    told = [match.groups() for match in found if match is not None]
    assert len(told) == len(lines) == 5
    *short, long = [text for *_, text in told]
    assert short == ["disk full", "100 % of it", "\ufeffgr\u00fc\u00dfe", "red \\x1b[31m"]
    assert re.fullmatch("\ufeff\u20ac{4000,9999}", long)
    for priority, when, host, name, process, _ in told:
        assert (priority, host, name) == ("11", socket.gethostname(), "syslog_sender")  # user, error
        age = datetime.datetime.now(datetime.timezone.utc) - datetime.datetime.fromisoformat(when)
        assert datetime.timedelta(0) < age < datetime.timedelta(minutes=1)
        assert process == told[0][4] != str(os.getpid())


def test_syslog_through_logging(certificates: Certificates) -> None:
    """The handler, in a program of its own: five levels, five severities; no failure stops the program."""
    program = """if True:
        import logging, sys, dtlsffi
        from syslog_sender import SyslogHandler

        port, ca, cert, key = sys.argv[1:]
        context = dtlsffi.create_default_context(cafile=ca)
        context.load_cert_chain(cert, key)
        conn = dtlsffi.create_connection(("localhost", int(port)), context=context, timeout=10)
        logger = logging.getLogger()
        logger.addHandler(SyslogHandler(conn, "program", facility=16))
        logger.setLevel(logging.DEBUG)
        for level in (10, 20, 30, 40, 50):
            logger.log(level, "level %d", level)
        logging.getLogger("dtlsffi.handshake").error("of this very connection")
        logger.info("no %d", "number")
        logging.shutdown()
        logger.info("too late")
        print("still here")
    """
    with receiver(certificates.receiver) as listening:
        _, ca, _, cert, _, key = certificates.sender
        command = f"import sys; sys.path.insert(0, {str(EXAMPLES)!r})\n{program}"
        with Program([*PYTHON, "-c", command, port_of(listening), ca, cert, key]) as logs:
            assert logs.result() == 0, logs.output
            printed = logs.expect("still here")
        lines = listening.finished().splitlines()[2:]
    assert printed.count("--- Logging error ---") == 2
    assert "%d format" in printed
    assert "this DTLSSocket is closed" in printed
    told = [match.groups() for line in lines if (match := RFC5424.fullmatch(line))]
    assert [(priority, name, text) for priority, _, _, name, _, text in told] == [
        (str(16 * 8 + severity), "program", f"level {level}")
        for level, severity in ((10, 7), (20, 6), (30, 4), (40, 3), (50, 2))
    ]


def test_syslog_frames_are_those_of_the_rfc(certificates: Certificates) -> None:
    """Seen by openssl's server: the length, a space, the message."""
    port = free_port()
    _, ca, _, cert, _, key = certificates.receiver
    command = f"openssl s_server -dtls -accept 127.0.0.1:{port} -naccept 1 -cert {cert} -key {key} -CAfile {ca}"
    with Program([*command.split(), "-Verify", "1", "-verify_return_error"]) as server:
        wait_until_bound(port)
        with sender(str(port), certificates.sender, "--message", "hello, coll\u00e8gues") as sending:
            sending.finished()
        shown = server.expect("CONNECTION CLOSED")
    found = re.search("(\\d+) (<14>1 .* - - \ufeffhello, coll\u00e8gues)", shown)
    assert found is not None, shown
    assert int(found[1]) == len(found[2].encode())
    assert "DONE" in shown


def test_syslog_takes_a_datagram_of_several_messages(certificates: Certificates) -> None:
    """From openssl's client: RFC 6012 allows it; and something else than syslog ends the receiver, in words."""
    with receiver(certificates.receiver) as listening:
        _, ca, _, cert, _, key = certificates.sender
        command = f"openssl s_client -dtls -connect 127.0.0.1:{port_of(listening)} -cert {cert} -key {key} -CAfile {ca}"
        with Program([*command.split(), "-quiet"]) as client:
            listening.expect("the sender is ")
            client.say("8 <14>1 ab8 <14>1 cd1 ")  # say() adds what makes the third message
            listening.expect("\\x0a\n")
            client.say("no syslog")
            printed = listening.finished(1)
    assert "\n<14>1 ab\n<14>1 cd\n\\x0a\n" in printed
    assert "syslog_sender: not framed as RFC 6012 wants it: b'no syslog\\n'" in printed


def test_syslog_a_sender_without_a_certificate_is_refused(certificates: Certificates) -> None:
    """One of openssl's, since ours insists on having one; nothing of it is printed."""
    with receiver(certificates.receiver) as listening:
        ca = certificates.authority
        command = f"openssl s_client -dtls -connect 127.0.0.1:{port_of(listening)} -CAfile {ca} -quiet"
        with Program(command.split()) as client:
            client.say("8 <14>1 ab")
            printed = listening.finished(1)
    assert "PEER_DID_NOT_RETURN_A_CERTIFICATE" in printed
    assert "<14>" not in printed
    assert "the sender is " not in printed


def test_syslog_a_certificate_from_a_stranger_is_refused(certificates: Certificates) -> None:
    """And the sender fails, too, without having sent anything."""
    with (
        receiver(certificates.receiver) as listening,
        sender(port_of(listening), certificates.stranger, "--message", "secret") as sending,
    ):
        printed = listening.finished(1)
        complaint = sending.finished(1)
    assert "CERTIFICATE_VERIFY_FAILED" in printed
    assert "secret" not in printed
    assert "unknown_ca" in complaint


def test_syslog_another_host_is_refused(certificates: Certificates) -> None:
    """A receiver whose certificate is good, but for another name."""
    with receiver(certificates.elsewhere) as listening:
        with sender(port_of(listening), certificates.sender, "--message", "secret") as sending:
            assert "Hostname mismatch, certificate is not valid for 'localhost'" in sending.finished(1)
        assert "secret" not in listening.finished(1)
