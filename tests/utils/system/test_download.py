import hashlib
import http.server
import threading

import pytest

from utils.system.download import DownloadFailed, fetch, md5_of

CONTENT = bytes(range(256)) * 20_000  # 5 MB, several chunks
MD5 = hashlib.md5(CONTENT).hexdigest()


class Handler(http.server.BaseHTTPRequestHandler):
    """Serves /file with ranges, and faults by other names; notes what was asked for."""

    def do_GET(self):
        start = int(self.headers.get("Range", "bytes=0-")[6:-1])
        self.server.asked.append((self.path, start))
        if self.path == "/bot":
            self.reply(202, b"")
        elif self.path == "/missing":
            self.reply(404, b"nothing here")
        elif self.path == "/other":
            self.reply(200, b"another file")
        elif self.path == "/norange":
            self.reply(200, CONTENT)
        elif self.path == "/broken":
            self.reply(200, CONTENT, sent=3_000_000)
        elif start >= len(CONTENT):
            self.reply(416, b"")
        else:
            self.reply(206 if start else 200, CONTENT[start:])

    def reply(self, status, body, sent=None):
        self.send_response(status)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body[:sent])

    def log_message(self, *args):
        pass


@pytest.fixture
def server():
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        server.asked = []
        server.url = f"http://127.0.0.1:{server.server_port}"
        threading.Thread(target=server.serve_forever, daemon=True).start()
        yield server
        server.shutdown()


@pytest.fixture
def target(tmp_path):
    return tmp_path / "a.zip"


def part(target):
    return target.with_name("a.zip.part")


def get(server, target, *names):
    fetch([f"{server.url}/{name}" for name in names], target, MD5)


def test_a_file_is_fetched_and_checked(server, target):
    get(server, target, "file")
    assert md5_of(target) == MD5
    assert not part(target).exists()


@pytest.mark.parametrize("fault", ["bot", "missing", "other", "broken"])
def test_the_next_address_is_tried(server, target, fault):
    get(server, target, fault, "file")
    assert md5_of(target) == MD5


def test_a_partial_file_is_continued(server, target):
    part(target).write_bytes(CONTENT[:1_000_000])
    get(server, target, "file")
    assert md5_of(target) == MD5
    assert server.asked == [("/file", 1_000_000)]


def test_a_broken_connection_is_continued_elsewhere(server, target):
    get(server, target, "broken", "file")
    assert server.asked == [("/broken", 0), ("/file", 3_000_000)]


def test_a_server_without_ranges_starts_again(server, target):
    part(target).write_bytes(b"x" * 1000)
    get(server, target, "norange")
    assert md5_of(target) == MD5


def test_a_complete_partial_file_is_not_asked_for(server, target):
    part(target).write_bytes(CONTENT)
    get(server, target, "file")
    assert server.asked == []
    assert md5_of(target) == MD5


def test_an_overlong_partial_file_is_replaced(server, target):
    part(target).write_bytes(CONTENT + b"x")
    get(server, target, "file")
    assert md5_of(target) == MD5


def test_a_wrong_partial_file_is_found_by_its_sum_and_fetched_anew(server, target):
    part(target).write_bytes(b"x" * 1000)
    get(server, target, "file", "file")
    assert md5_of(target) == MD5


def test_every_fault_is_named_and_what_arrived_is_kept(server, target):
    with pytest.raises(DownloadFailed, match="(?s)a.zip.*/bot: answered 202.*/broken: broke off"):
        get(server, target, "bot", "broken")
    assert part(target).stat().st_size == 3_000_000
    assert not target.exists()
