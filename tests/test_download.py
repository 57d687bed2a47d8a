"""A big download: whole and checked, or a part to go on from. The server runs on this machine."""

import hashlib
import http.server
import os
import threading
from types import SimpleNamespace

import numpy as np
import pytest
from huggingface_hub import constants
from urllib3.util import Retry

from hf_musiclf.data import download
from hf_musiclf.data.download import CHUNK_BYTES, download_file
from hf_musiclf.errors import UserError

CONTENT = np.random.default_rng(0).bytes(3_000_000)
SHA256 = hashlib.sha256(CONTENT).hexdigest()


class Handler(http.server.BaseHTTPRequestHandler):
    """Serves `server.plan.content`, with the faults that the plan names."""

    def do_HEAD(self):
        self.answer(with_body=False)

    def do_GET(self):
        self.answer(with_body=True)

    def answer(self, with_body):
        plan, asked = self.server.plan, self.headers.get("Range")
        plan.requests.append((self.command, asked))
        if plan.statuses:
            return self.head(plan.statuses.pop(0), 0)
        if not with_body and plan.no_head:
            return self.head(405, 0)
        start = int(asked.removeprefix("bytes=").removesuffix("-")) if asked and plan.knows_ranges else 0
        if start >= len(plan.content):
            return self.head(416, 0)
        body = plan.content[start:]
        self.head(206 if start else 200, len(body))
        if with_body:
            limit = plan.breaks_after.pop(0) if plan.breaks_after else len(body)
            self.wfile.write(body[:limit])
            self.close_connection = True

    def head(self, status, length):
        self.send_response(status)
        self.send_header("Content-Length", str(length))
        self.end_headers()

    def log_message(self, *arguments):
        pass


@pytest.fixture
def plan(monkeypatch):
    """What the server does; its `requests` gather (method, Range header)."""
    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    server.daemon_threads = True
    server.handle_error = lambda *request: None  # the client hangs up on answers that it does not want
    threading.Thread(target=server.serve_forever, args=(0.01,), daemon=True).start()
    server.plan = SimpleNamespace(
        content=CONTENT, knows_ranges=True, no_head=False, statuses=[], breaks_after=[], requests=[]
    )
    server.plan.url = f"http://127.0.0.1:{server.server_port}/big.zip"
    monkeypatch.setenv("NO_PROXY", "127.0.0.1")
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", False)
    monkeypatch.setattr(download, "WAIT_SECONDS", 0.0)
    monkeypatch.setattr(download, "BUSY", Retry(2, backoff_factor=0, status_forcelist=(500,), raise_on_status=False))
    yield server.plan
    server.shutdown()
    server.server_close()


def fetch(plan, target, sha256=SHA256):
    return download_file(plan.url, target, sha256, "about 3 MB", "the big file")


def gets(plan):
    return [asked for method, asked in plan.requests if method == "GET"]


def test_a_file_is_fetched_checked_and_announced(plan, tmp_path, capsys):
    target = tmp_path / "data" / "big.zip"
    assert fetch(plan, target) == target
    assert target.read_bytes() == CONTENT
    assert not target.with_name("big.zip.part").exists()
    assert f"Downloading the big file, 3 MB, from {plan.url} to {target}\n" in capsys.readouterr().out
    plan.requests.clear()
    assert fetch(plan, target) == target
    assert plan.requests == []


def test_without_a_size_from_the_server_the_note_is_told(plan, tmp_path, capsys):
    plan.no_head = True
    assert fetch(plan, tmp_path / "big.zip").read_bytes() == CONTENT
    assert "the big file, about 3 MB, from" in capsys.readouterr().out


def test_a_connection_that_breaks_is_taken_up_again(plan, tmp_path):
    plan.breaks_after = [16 * CHUNK_BYTES, 8 * CHUNK_BYTES]
    assert fetch(plan, tmp_path / "big.zip").read_bytes() == CONTENT
    assert gets(plan) == [None, f"bytes={16 * CHUNK_BYTES}-", f"bytes={24 * CHUNK_BYTES}-"]


def test_a_second_call_asks_only_for_the_rest(plan, tmp_path, capsys):
    target = tmp_path / "big.zip"
    plan.breaks_after = [16 * CHUNK_BYTES] + [0] * 20
    said = r"the big file: the connection broke after 1\.05 MB of 3 MB \(.*\); run the same command again: it goes on"
    with pytest.raises(UserError, match=said):
        fetch(plan, target)
    assert len(gets(plan)) == 1 + 1 + download.MAX_ATTEMPTS
    assert not target.exists()
    assert target.with_name("big.zip.part").read_bytes() == CONTENT[: 16 * CHUNK_BYTES]
    plan.breaks_after = []
    plan.requests.clear()
    capsys.readouterr()
    assert fetch(plan, target).read_bytes() == CONTENT
    assert gets(plan) == [f"bytes={16 * CHUNK_BYTES}-"]
    assert "; 1.05 MB of it are here already" in capsys.readouterr().out


def test_a_server_that_ignores_ranges_sends_all_of_it_anew(plan, tmp_path):
    plan.knows_ranges = False
    target = tmp_path / "big.zip"
    target.with_name("big.zip.part").write_bytes(CONTENT[:2_000_000])
    assert fetch(plan, target).read_bytes() == CONTENT
    assert gets(plan) == ["bytes=2000000-"]


@pytest.mark.parametrize("no_head,asked", [(False, []), (True, ["bytes=3000000-"])])
def test_a_part_that_is_complete_is_only_checked(plan, tmp_path, no_head, asked):
    plan.no_head = no_head  # without its size the server is asked, and answers 416
    target = tmp_path / "big.zip"
    target.with_name("big.zip.part").write_bytes(CONTENT)
    assert fetch(plan, target).read_bytes() == CONTENT
    assert gets(plan) == asked


def test_a_part_longer_than_the_file_is_fetched_anew(plan, tmp_path):
    target = tmp_path / "big.zip"
    target.with_name("big.zip.part").write_bytes(CONTENT + b"more")
    assert fetch(plan, target).read_bytes() == CONTENT
    assert gets(plan) == [None]


def test_a_wrong_digest_is_told_and_the_next_call_starts_afresh(plan, tmp_path):
    target = tmp_path / "big.zip"
    target.with_name("big.zip.part").write_bytes(bytes(1_000_000))  # of a file that has changed on the server since
    mixed = hashlib.sha256(bytes(1_000_000) + CONTENT[1_000_000:]).hexdigest()
    with pytest.raises(UserError, match=f"has SHA-256 {mixed}, the published file has {SHA256}; it was deleted, run"):
        fetch(plan, target)
    assert not target.exists()
    assert not target.with_name("big.zip.part").exists()
    assert fetch(plan, target).read_bytes() == CONTENT


def test_a_busy_server_is_asked_again(plan, tmp_path):
    plan.statuses = [500]
    assert fetch(plan, tmp_path / "big.zip").read_bytes() == CONTENT


@pytest.mark.parametrize("status,reason", [(404, "Not Found"), (403, "Forbidden"), (500, "Internal Server Error")])
def test_an_answer_without_the_file_is_one_line(plan, tmp_path, status, reason):
    plan.statuses = [status] * 3
    with pytest.raises(UserError, match=rf"the big file cannot be downloaded: .* answers {status} {reason};") as caught:
        fetch(plan, tmp_path / "big.zip")
    assert "\n" not in str(caught.value)


def test_a_server_that_is_not_there_is_one_line(plan, tmp_path):
    plan.url = "http://127.0.0.1:9/big.zip"  # the port to discard at, where nobody listens
    with pytest.raises(UserError, match=r"big\.zip cannot be reached \(ConnectionError\); try later"):
        fetch(plan, tmp_path / "big.zip")


def test_offline_nobody_is_asked(plan, tmp_path, monkeypatch):
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", True)
    with pytest.raises(UserError, match="HF_HUB_OFFLINE is set; unset it, or fetch http"):
        fetch(plan, tmp_path / "big.zip")
    assert plan.requests == []


def test_the_room_on_the_disk_is_asked_before_anything_comes(plan, tmp_path, monkeypatch):
    monkeypatch.setattr(download.shutil, "disk_usage", lambda path: SimpleNamespace(free=2_500_000))
    target = tmp_path / "big.zip"
    with pytest.raises(UserError, match=r"does not fit: 3 MB are to come, and .* has 2\.5 MB free; free some, or"):
        fetch(plan, target)
    assert gets(plan) == []
    target.with_name("big.zip.part").write_bytes(CONTENT[:1_000_000])
    assert fetch(plan, target).read_bytes() == CONTENT


@pytest.mark.skipif(not os.path.exists("/dev/full"), reason="/dev/full stands for a full disk")
def test_a_full_disk_is_no_fault_of_the_download(plan, tmp_path):
    (tmp_path / "big.zip.part").symlink_to("/dev/full")
    with pytest.raises(OSError, match="No space left on device"):
        fetch(plan, tmp_path / "big.zip")


def test_two_at_once_fetch_it_once(plan, tmp_path):
    calls = [threading.Thread(target=fetch, args=(plan, tmp_path / "big.zip")) for _ in range(2)]
    for call in calls:
        call.start()
    for call in calls:
        call.join()
    assert (tmp_path / "big.zip").read_bytes() == CONTENT
    assert gets(plan) == [None]
