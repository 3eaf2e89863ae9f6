"""`restante post`: where its keys come from, and what a port that is no node's answers."""

import http.server
import threading

import pytest
from click.testing import CliRunner

from restante.cli.handing import hand_in
from restante.cli.post import _encrypt, post
from restante.errors import ConfigError, Unavailable
from restante.networks.whisper import crypt

KEY, OTHER, SIGNER = b"\x11" * 32, b"\x33" * 32, b"\x22" * 32


def encrypt(**given):
    names = ("key_file", "password_file", "public_key", "sign_key_file")
    ways = {**dict.fromkeys(names), "ask": False, "ask_for_key": False, **given}
    return _encrypt(b"text", **ways)


def test_keys_of_the_environment(monkeypatch):
    monkeypatch.setenv("RESTANTE_KEY", KEY.hex())
    monkeypatch.setenv("RESTANTE_SIGN_KEY", "0x" + SIGNER.hex())
    message = crypt.decrypt_symmetric(encrypt(), KEY)
    assert message.payload == b"text"
    assert message.signer == crypt.public_key(SIGNER)


def test_files_come_before_the_environment(monkeypatch, tmp_path):
    monkeypatch.setenv("RESTANTE_KEY", KEY.hex())
    (tmp_path / "key").write_text(OTHER.hex())
    assert crypt.decrypt_symmetric(encrypt(key_file=tmp_path / "key"), OTHER).payload == b"text"


def test_a_key_that_is_typed(monkeypatch):
    monkeypatch.setattr("click.prompt", lambda *_, **more: KEY.hex() if more["hide_input"] else "")
    assert crypt.decrypt_symmetric(encrypt(ask_for_key=True), KEY).payload == b"text"


def test_what_is_ambiguous_or_wrong(monkeypatch):
    monkeypatch.setenv("RESTANTE_KEY", "5ecret")
    with pytest.raises(ConfigError, match="RESTANTE_KEY does not hold") as caught:
        encrypt()
    assert "5ecret" not in str(caught.value)
    monkeypatch.setenv("RESTANTE_PASSWORD", "word")
    with pytest.raises(ConfigError, match="both set"):
        encrypt()
    with pytest.raises(ConfigError, match="one way"):
        encrypt(ask=True, ask_for_key=True)


def test_help_names_them():
    told = CliRunner().invoke(post, ["--help"]).stdout
    for name in ("RESTANTE_KEY", "RESTANTE_SIGN_KEY", "--ask-key"):
        assert name in told


@pytest.mark.parametrize("status", [404, 405])
def test_a_port_that_takes_no_envelopes(status):
    class Answer(http.server.BaseHTTPRequestHandler):
        def do_POST(self):
            self.rfile.read(int(self.headers["Content-Length"]))
            code = {404: "not-found", 405: "method"}[status]
            body = b'{"code": "%s", "message": "no", "hint": ""}' % code.encode()
            self.send_response(status)
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, *_):
            pass

    with http.server.HTTPServer(("127.0.0.1", 0), Answer) as server:
        thread = threading.Thread(target=server.handle_request)
        thread.start()
        with pytest.raises(Unavailable) as caught:
            hand_in(f"http://127.0.0.1:{server.server_port}", b"x")
        thread.join()
    assert "gateway" in caught.value.hint
