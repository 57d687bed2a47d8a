"""How the Hub of the tests answers at all: a server on the loopback, its failures, and the routes' common parts."""

import contextlib
import json
import re
import socket
import struct
import sys
import threading
from dataclasses import dataclass
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from urllib.parse import parse_qs, unquote, urlsplit

from hub_store import Store

REPO = r"(?P<id>[\w.-]+/[\w.-]+)"
API = rf"/api/(?P<type>model|dataset|space)s/{REPO}"
PREFIX = r"/(?:(?P<type>dataset|space)s/)?"


@dataclass
class Failure:
    """Of the next `times` requests that match: an answer with `status`, or a broken connection after `drop` bytes."""

    method: str
    path: str
    status: int
    times: int
    headers: dict
    drop: int | None


@dataclass
class Asked:
    """A request as it came: what the tests look at afterwards."""

    method: str
    path: str
    status: int | None = None
    body_bytes: int = 0


class QuietServer(ThreadingHTTPServer):
    daemon_threads = True

    def handle_error(self, request, client_address):
        """A connection that was broken on purpose, or by the client, is no news."""
        if not isinstance(sys.exc_info()[1], OSError):
            super().handle_error(request, client_address)


class HubServer:
    def __init__(self, part_bytes=1 << 40, port=0):
        self.store, self.part_bytes = Store(), part_bytes
        self.failures, self.asked = [], []
        self.http = QuietServer(("127.0.0.1", port), Handler)
        self.http.hub = self
        self.url = f"http://127.0.0.1:{self.http.server_port}"

    def __enter__(self):
        threading.Thread(target=self.http.serve_forever, kwargs={"poll_interval": 0.02}, daemon=True).start()
        return self

    def __exit__(self, *_):
        self.http.shutdown()
        self.http.server_close()

    def fail(self, method, path, status=503, times=1, headers=None, drop=None):
        """path: found in the request's path. drop: bytes of the body that are read before the connection breaks."""
        self.failures.append(Failure(method, path, status, times, headers or {}, drop))

    def take_failure(self, method, path):
        for failure in self.failures:
            if failure.times > 0 and failure.method == method and re.search(failure.path, path):
                failure.times -= 1
                return failure
        return None

    def requests(self, method, path):
        return [asked for asked in self.asked if asked.method == method and re.search(path, asked.path)]

    def repository(self, repo_id, repo_type="model"):
        return self.store.repositories[repo_type, repo_id]


ROUTES = []


def route(method, pattern):
    def enter(function):
        ROUTES.append((method, re.compile(f"{pattern}$"), function))
        return function

    return enter


class Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    # A GET and its headers in one segment: else the client's delayed acknowledgement costs 40 ms each time.
    disable_nagle_algorithm = True

    def log_message(self, *_):
        pass

    def setup(self):
        super().setup()
        self.hub, self.store = self.server.hub, self.server.hub.store

    def answer_request(self):
        url = urlsplit(self.path)
        self.where, self.query = unquote(url.path), parse_qs(url.query)
        self.asked = Asked(self.command, self.where)
        self.hub.asked.append(self.asked)
        self.token = (self.headers.get("Authorization") or "").removeprefix("Bearer ") or None
        failure = self.hub.take_failure(self.command, self.where)
        if failure and failure.drop is not None:
            return self.break_off(failure.drop)
        self.body = b"".join(self.pieces())
        self.asked.body_bytes = len(self.body)
        if failure:
            return self.answer(failure.status, {"error": f"told to answer {failure.status}"}, failure.headers)
        for method, pattern, function in ROUTES:
            found = pattern.match(self.where)
            if found and method == ("GET" if self.command == "HEAD" else self.command):
                return function(self, **found.groupdict())
        return self.answer(404, {"error": f"no such address: {self.command} {self.where}"})

    do_GET = do_HEAD = do_POST = do_PUT = answer_request

    def pieces(self):
        """The body, with a length or in chunks."""
        if self.headers.get("Transfer-Encoding") == "chunked":
            while size := int(self.rfile.readline(), 16):
                yield self.rfile.read(size)
                self.rfile.readline()
            self.rfile.readline()
        else:
            yield self.rfile.read(int(self.headers.get("Content-Length") or 0))

    def break_off(self, drop):
        self.asked.body_bytes = len(self.rfile.read(drop)) if drop else 0
        # Linger 0: the connection is reset, as a router that forgets it does.
        self.connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        self.close_connection = True
        with contextlib.suppress(OSError):
            self.rfile.close()
            self.connection.close()
        raise ConnectionAbortedError

    def answer(self, status, content=b"", headers=None):
        self.asked.status = status
        body = content if isinstance(content, bytes) else json.dumps(content).encode()
        headers = {"Content-Type": "application/json", "Content-Length": str(len(body)), **(headers or {})}
        if status >= 400 and "error" in (content if isinstance(content, dict) else {}):
            headers.setdefault("X-Error-Message", content["error"])
        self.send_response(status)
        for name, value in headers.items():
            self.send_header(name, value)
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(body)

    def refuse(self, status, code, message):
        self.answer(status, {"error": message}, {"X-Error-Code": code} if code else {})

    def json(self):
        return json.loads(self.body)

    def repo(self, type, id, write=False):
        """The repository, or None after the answer that it is not there, hidden, or not the token's to write."""
        found = self.store.find(type or "model", id, self.token)
        if found is None:
            self.refuse(404 if self.token in self.store.tokens else 401, "RepoNotFound", "Repository not found")
        elif write and not self.may_write(id):
            return None
        return found

    def may_write(self, id):
        if self.token not in self.store.tokens:
            self.refuse(401, None, "Invalid credentials in Authorization header")
        elif self.store.tokens[self.token]["role"] == "read" or id.partition("/")[0] not in self.store.owners(
            self.token
        ):
            self.refuse(403, None, f"Forbidden: you don't have the rights to write to {id}")
        else:
            return True
        return False
