"""dtlsffi.cli and dtlsffi.__main__: run as a user runs them."""

from __future__ import annotations

import os
import socket
import subprocess
import sys
from pathlib import Path

import pytest

import dtlsffi
from dtlsffi import cli
from dtlsffi.core import pins
from dtlsffi.testing import Authority, Identity
from tests.helpers import HOST, only, start
from tests.interop.programs import Files, Program, free_port, wait_until_bound

DTLSFFI = [sys.executable, "-X", "dev", "-W", "error", "-m", "dtlsffi"]


@pytest.fixture
def files(tmp_path: Path) -> Files:
    return Files(tmp_path)


def run(*arguments: str, stdin: str = "") -> subprocess.CompletedProcess[str]:
    return subprocess.run([*DTLSFFI, *arguments], input=stdin, capture_output=True, text=True, timeout=60, check=False)


def serve(files: Files, authority: Authority, port: int, *more: str) -> Program:
    identity = authority.issue(HOST)
    certificate = ["--cert", files.write(identity.certificate), "--key", files.write(identity.key)]
    program = Program([*DTLSFFI, "server", str(port), "--bind", "127.0.0.1", *certificate, *more])
    wait_until_bound(port)
    return program


@pytest.mark.parametrize("by_echo", [True, False])
def test_client_and_server_talk(by_echo: bool, files: Files, authority: Authority) -> None:
    """Lines of stdin go out as datagrams, what comes is printed; the client waits a while for answers."""
    port = free_port()
    ca = files.write(authority.certificate)
    with serve(files, authority, port, "--verbose", *(["--echo"] if by_echo else [])) as server:
        client = ["client", "127.0.0.1", str(port), "--ca", ca, "--name", HOST, "--verbose", "--linger", "0.3"]
        if by_echo:
            result = run(*client, stdin="one\ntwo\nlast")
            assert result.returncode == 0, result.stderr
            assert result.stdout == "one\ntwo\nlast\n"
            assert "DTLSv1.2, ECDHE-ECDSA-AES256-GCM-SHA384 (256 bits)" in result.stderr
            assert "peer certificate:" in result.stderr
            assert "'records_sent': 3" in result.stderr
        else:
            with Program([*DTLSFFI, *client]) as talker:
                talker.say("a question")
                server.expect("a question\n")
                server.say("an answer")
                talker.expect("an answer\n")
                talker.end_input()
                assert talker.result() == 0
        server.expect("the peer closed")
        assert server.result() == 0


def test_a_server_may_keep_listening(files: Files, authority: Authority) -> None:
    """--keep: one client after the other, also after one that failed."""
    port = free_port()
    ca = files.write(authority.certificate)
    with serve(files, authority, port, "--echo", "--keep", "--timeout", "2") as server:
        for name, status in ((HOST, 0), ("other.example", 1), (HOST, 0)):
            result = run(
                "client", "127.0.0.1", str(port), "--ca", ca, "--name", name, "--linger", "0.2", stdin="hello\n"
            )
            assert result.returncode == status, result.stderr
            assert result.stdout == ("hello\n" if status == 0 else "")
        server.expect("bad_certificate")


def test_control_characters_are_escaped(files: Files, authority: Authority) -> None:
    """A peer cannot move the terminal's cursor, nor hide text; --binary prints what came."""
    port = free_port()
    ca = files.write(authority.certificate)
    sent = "\x1b[2Jgreen\x07 \u202egnirts\u200b ü\n"
    escaped = "\\x1b[2Jgreen\\x07 \\u202egnirts\\u200b ü\n"
    for more, expected in (([], escaped), (["--binary"], sent)):
        with serve(files, authority, port, "--echo"):
            client = ["client", "127.0.0.1", str(port), "--ca", ca, "--name", HOST, "--linger", "0.3", *more]
            assert run(*client, stdin=sent).stdout == expected


def test_a_bad_certificate_is_refused(files: Files, authority: Authority, stranger: Authority) -> None:
    """With status 1 and a sentence; --insecure talks all the same."""
    port = free_port()
    ca = files.write(authority.certificate)
    with serve(files, stranger, port, "--echo", "--keep", "--timeout", "2"):
        result = run("client", "127.0.0.1", str(port), "--ca", ca, "--name", HOST, stdin="secret\n")
        assert result.returncode == 1
        assert result.stdout == ""
        assert "CERTIFICATE_VERIFY_FAILED" in result.stderr
        assert "Traceback" not in result.stderr
        result = run("client", "127.0.0.1", str(port), "--insecure", "--linger", "0.2", stdin="hello\n")
        assert (result.returncode, result.stdout) == (0, "hello\n"), result.stderr


def test_a_client_certificate_is_asked_for(files: Files, authority: Authority) -> None:
    """--ca at the server."""
    port = free_port()
    ca = files.write(authority.certificate)
    identity = authority.issue("client.example")
    both = files.write(identity.key + identity.certificate)
    client = ["client", "127.0.0.1", str(port), "--ca", ca, "--name", HOST, "--linger", "0.2"]
    with serve(files, authority, port, "--echo", "--keep", "--ca", ca, "--verbose") as server:
        result = run(*client, stdin="hello\n")
        assert result.returncode == 1
        assert "handshake_failure" in result.stderr
        result = run(
            *client, "--cert", both, "--mtu", "400", "--ciphers", "ECDHE+CHACHA20", "--verbose", stdin="hello\n"
        )
        assert (result.returncode, result.stdout) == (0, "hello\n"), result.stderr
        assert "CHACHA20" in result.stderr
        assert "mtu 400" in result.stderr
        server.expect("client.example")


def test_a_key_will_do(tmp_path: Path) -> None:
    """--psk on both sides, from the command line or from a file; the trace shows the handshake."""
    port = free_port()
    (tmp_path / "psk").write_text("me:00112233445566778899aabbccddeeff\n")
    with Program([*DTLSFFI, "server", str(port), "--bind", "127.0.0.1", "--echo", "--psk", f"@{tmp_path / 'psk'}"]):
        wait_until_bound(port)
        result = run(
            "client", "127.0.0.1", str(port), "--psk", "me:00112233445566778899aabbccddeeff", "--linger", "0.2",
            "--trace", stdin="hello\n",
        )  # fmt: skip
    assert (result.returncode, result.stdout) == (0, "hello\n"), result.stderr
    assert "-> DTLSv1.2 message handshake client_key_exchange" in result.stderr
    assert "00112233" not in result.stderr


def test_a_fingerprint_will_do(files: Files, authority: Authority) -> None:
    """--fingerprint in place of an authority."""
    port = free_port()
    client = ["client", "127.0.0.1", str(port), "--linger", "0.2", "--fingerprint"]
    with serve(files, authority, port, "--echo", "--keep"):
        pem = dtlsffi.get_server_certificate(("127.0.0.1", port))
        right = pins.fingerprint(dtlsffi.PEM_cert_to_DER_cert(pem))
        result = run(*client, right, stdin="hello\n")
        assert (result.returncode, result.stdout) == (0, "hello\n"), result.stderr
        result = run(*client, right[:-2] + ("00" if right[-2:] != "00" else "11"), stdin="hello\n")
        assert result.returncode == 1
        assert "it is sha-256" in result.stderr


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["client", "127.0.0.1", "9", "--ca", "/nonexistent"], "No such file or directory"),
        (["client", "127.0.0.1", "9", "--insecure", "--mtu", "5"], "mtu is 208 to 65527"),
        (["client", "127.0.0.1", "9", "--insecure", "--ciphers", "nonsense"], "no cipher suite can be selected"),
        (["client", "127.0.0.1", "9", "--insecure", "--timeout", "5"], "Connection refused (127.0.0.1:9)"),
        (["server", "0"], "a server needs a certificate or a key: --cert FILE"),
    ],
)
def test_what_is_wrong_is_said_in_a_sentence(arguments: list[str], words: str) -> None:
    """Status 1, no traceback."""
    result = run(*arguments)
    assert result.returncode == 1
    assert words in result.stderr
    assert "Traceback" not in result.stderr


@pytest.mark.parametrize(
    "arguments", [[], ["nonsense"], ["client", "host", "70000"], ["client"], ["client", "x", "1", "--psk", "me:nothex"]]
)
def test_bad_usage_is_status_2(arguments: list[str]) -> None:
    """As argparse does it."""
    result = run(*arguments)
    assert result.returncode == 2
    assert "usage:" in result.stderr


def test_info_is_for_bug_reports() -> None:
    """Versions, and everything that HAS_... says."""
    output = run("info").stdout
    assert f"dtlsffi: {dtlsffi.__version__}\n" in output
    assert f"OpenSSL: {dtlsffi.OPENSSL_VERSION}\n" in output
    for name in (name for name in dtlsffi.__all__ if name.startswith("HAS_")):
        assert f"{name}: {getattr(dtlsffi, name)}\n" in output
    for word in ("Python: ", "cffi: ", "platform: ", "OpenSSL built against: "):
        assert word in output


def test_demo_shows_the_main_job() -> None:
    """A verified handshake over a wire that loses a third, and an impostor who is refused."""
    result = run("demo")
    assert result.returncode == 0, result.stderr
    assert result.stderr == ""
    for words in (
        "loses 33% of all datagrams",
        "Handshake finished: DTLSv1.2",
        "The certificate was verified: it is for device.example.",
        "echoes came back whole",
        "Refused: [SSL: CERTIFICATE_VERIFY_FAILED]",
    ):
        assert words in result.stdout


def test_ctrl_c_is_status_130(monkeypatch: pytest.MonkeyPatch) -> None:
    """And no traceback."""

    def interrupt(_: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(cli, "run_info", interrupt)
    assert cli.main(["info"]) == 130


def test_the_script_is_installed() -> None:
    """`dtlsffi` beside python."""
    script = Path(sys.executable).parent / "dtlsffi"
    result = subprocess.run([str(script), "--version"], capture_output=True, text=True, check=True, env=os.environ)
    assert result.stdout.startswith(f"dtlsffi {dtlsffi.__version__}, OpenSSL")


@pytest.mark.parametrize("which", ["right", "wrong", "none"])
def test_a_server_may_want_one_certificate_and_no_other(
    which: str, files: Files, authority: Authority, stranger: Authority
) -> None:
    """--fingerprint on its side: whoever does not show it is refused, and it waits for one who does."""
    port = free_port()
    own, other = stranger.issue("one.example"), stranger.issue("other.example")
    pinned = dtlsffi.DTLSContext(dtlsffi.PROTOCOL_DTLS)
    pinned.load_cert_chain(own.certificate, own.key)
    shown = {"right": own, "wrong": other, "none": None}[which]
    ca = files.write(authority.certificate)

    def client(identity: Identity | None) -> str:
        show = (
            []
            if identity is None
            else ["--cert", files.write(identity.certificate), "--key", files.write(identity.key)]
        )
        to = ("127.0.0.1", str(port), "--ca", ca, "--name", HOST, "--linger", "0.3")
        return run("client", *to, *show, stdin="hi\n").stdout

    with serve(files, authority, port, "--echo", "--fingerprint", str(pinned.fingerprint())) as server:
        assert client(shown) == ("hi\n" if which == "right" else "")
        if which != "right":
            assert client(own) == "hi\n"
        assert server.result() == 0


@pytest.mark.parametrize(
    "options",
    [
        ["--timeout", "inf"], ["--timeout", "0"], ["--timeout", "nan"], ["--linger", "-1"], ["--linger", "1e10"],
        ["--key", "key.pem"],
    ],
)  # fmt: skip
def test_what_makes_no_sense_is_said_at_once(options: list[str]) -> None:
    """In a line, and not by a traceback."""
    result = run("client", "127.0.0.1", "9", *options)
    assert result.returncode in (1, 2)
    assert "Traceback" not in result.stderr
    assert options[0] in result.stderr


def test_stdin_may_be_closed(files: Files, authority: Authority) -> None:
    """Which is its end."""
    port = free_port()
    ca = files.write(authority.certificate)
    with serve(files, authority, port, "--echo") as server:
        command = " ".join(
            [*DTLSFFI, "client", "127.0.0.1", str(port), "--ca", ca, "--name", HOST, "--linger", "0.1", "<&-"]
        )
        result = subprocess.run(["sh", "-c", command], capture_output=True, text=True, timeout=60, check=False)
        assert (result.returncode, result.stderr) == (0, "")
        assert server.result() == 0


@pytest.mark.parametrize(
    "options",
    [["--ca", ""], ["--cert", ""], ["--key", ""], ["--ciphers", ""], ["--name", ""], ["--psk", "me:"],
     ["--psk", "abcd"], ["--psk", ":"], ["--psk", "n" * 129 + ":00"], ["--psk", "me:" + "00" * 513],
     ["--fingerprint", "junk"]],
)  # fmt: skip
def test_what_is_empty_or_cannot_be_is_bad_usage(options: list[str]) -> None:
    """A shell's variable that is not set must not turn verification off."""
    result = run("client", "127.0.0.1", "9", *options)
    assert result.returncode == 2
    assert options[0] in result.stderr


def test_nobody_who_has_not_shown_where_he_is_gets_more_than_he_sent(files: Files, authority: Authority) -> None:
    """RFC 6347 section 4.2.1: and whoever is there gets in meanwhile, without --keep, too."""
    port = free_port()
    ca = files.write(authority.certificate)
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as stranger:
        stranger.connect(("127.0.0.1", port))
        with serve(files, authority, port, "--echo") as server:
            hello = only(start(dtlsffi.Connection(authority.client_context(), server_hostname=HOST)))
            stranger.send(hello)
            stranger.send(b"\x16\xfe\xfd" + bytes(10) + b"\x01")
            result = run("client", "127.0.0.1", str(port), "--ca", ca, "--name", HOST, "--linger", "0.3", stdin="hi\n")
            assert (result.returncode, result.stdout) == (0, "hi\n"), result.stderr
            assert server.result() == 0
        stranger.setblocking(False)
        assert len(stranger.recv(4096)) <= len(hello)
        with pytest.raises(BlockingIOError):
            stranger.recv(4096)


def test_what_cannot_be_sent_ends_the_talk(files: Files, authority: Authority) -> None:
    """With status 1."""
    port = free_port()
    ca = files.write(authority.certificate)
    with serve(files, authority, port, "--echo") as server:
        result = run("client", "127.0.0.1", str(port), "--ca", ca, "--name", HOST, "--mtu", "300", stdin="x" * 400)
        assert result.returncode == 1
        assert "do not fit into one datagram" in result.stderr
        assert server.result() == 0


@pytest.mark.parametrize("how", [["--echo"], ["--idle", "0.3"]])
def test_a_client_that_vanishes_is_in_nobodys_way(how: list[str], files: Files, authority: Authority) -> None:
    """--keep: its place is free when it has been silent for long, and with --echo all are served at once."""
    port = free_port()
    ca = files.write(authority.certificate)
    client = ["client", "127.0.0.1", str(port), "--ca", ca, "--name", HOST, "--linger", "0.2", "--timeout", "20"]
    with serve(files, authority, port, "--keep", *how) as server:
        with Program([*DTLSFFI, *client]) as vanishing:
            vanishing.say("hello\n")
            (vanishing if how == ["--echo"] else server).expect("hello\n")  # then it is killed
        result = run(*client, stdin="here\n")
        assert result.returncode == 0, result.stderr
        if how == ["--echo"]:
            assert result.stdout == "here\n"
        else:
            server.expect("here\n")


def test_each_line_is_for_the_client_that_is_there(files: Files, authority: Authority) -> None:
    """--keep: nobody who has gone reads stdin any more."""
    port = free_port()
    ca = files.write(authority.certificate)
    client = ["client", "127.0.0.1", str(port), "--ca", ca, "--name", HOST, "--linger", "0.1"]
    with serve(files, authority, port, "--keep") as server:
        for number in range(3):
            assert run(*client, stdin=f"hello {number}\n").returncode == 0
            server.expect(f"hello {number}\n")
        with Program([*DTLSFFI, *client]) as last:
            last.say("here")
            server.expect("here\n")
            for word in ("one", "two"):
                server.say(word)
                last.expect(f"{word}\n")
