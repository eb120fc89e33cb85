import hashlib
import http.server
import threading

import pytest

from utils.system.download import DownloadFailed, fetch, md5_of

CONTENT = bytes(range(256)) * 20_000  # 5 MB, several chunks
MD5 = hashlib.md5(CONTENT).hexdigest()


class Handler(http.server.BaseHTTPRequestHandler):
    """Serves /file with ranges, and faults under other names; records the requests."""

    def do_GET(self):
        start = int(self.headers.get("Range", "bytes=0-")[6:-1])
        self.server.requests.append((self.path, start))
        if self.path == "/bot":
            self.reply(202, b"")
        elif self.path == "/missing":
            self.reply(404, b"nothing here")
        elif self.path == "/other":
            self.reply(200, b"another file")
        elif self.path == "/length":
            self.reply(200, CONTENT, length="many")
        elif self.path == "/norange":
            self.reply(200, CONTENT)
        elif self.path == "/broken":
            self.reply(200, CONTENT, sent=3_000_000)
        elif start >= len(CONTENT):
            self.reply(416, b"")
        else:
            self.reply(206 if start else 200, CONTENT[start:])

    def reply(self, status, body, sent=None, length=None):
        self.send_response(status)
        self.send_header("Content-Length", length or str(len(body)))
        self.end_headers()
        self.wfile.write(body[:sent])

    def log_message(self, *args):
        pass


@pytest.fixture
def server():
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        server.requests = []
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


@pytest.mark.parametrize("fault", ["bot", "missing", "other", "broken", "length"])
def test_the_next_address_is_tried(server, target, fault):
    get(server, target, fault, "file")
    assert md5_of(target) == MD5


def test_a_partial_file_is_continued(server, target):
    part(target).write_bytes(CONTENT[:1_000_000])
    get(server, target, "file")
    assert md5_of(target) == MD5
    assert server.requests == [("/file", 1_000_000)]


def test_a_broken_connection_is_continued_elsewhere(server, target):
    get(server, target, "broken", "file")
    assert server.requests == [("/broken", 0), ("/file", 3_000_000)]


def test_a_server_without_ranges_sends_the_whole_file(server, target):
    part(target).write_bytes(b"x" * 1000)
    get(server, target, "norange")
    assert md5_of(target) == MD5


def test_a_complete_partial_file_is_not_requested(server, target):
    part(target).write_bytes(CONTENT)
    get(server, target, "file")
    assert server.requests == []
    assert md5_of(target) == MD5


def test_a_partial_file_that_is_too_long_is_replaced(server, target):
    part(target).write_bytes(CONTENT + b"x")
    get(server, target, "file")
    assert md5_of(target) == MD5


def test_a_wrong_partial_file_is_found_by_its_checksum_and_fetched_again(server, target):
    part(target).write_bytes(b"x" * 1000)
    get(server, target, "file", "file")
    assert md5_of(target) == MD5


def test_every_fault_is_named_and_the_partial_file_kept(server, target):
    with pytest.raises(DownloadFailed, match="a.zip.*/bot: status 202.*/broken: ended after 3"):
        get(server, target, "bot", "broken")
    assert part(target).stat().st_size == 3_000_000
    assert not target.exists()
