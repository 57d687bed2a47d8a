"""One big file over HTTP: goes on where it broke off, and is put in place only when its SHA-256 is right."""

import hashlib
import os
import shutil
import time
from pathlib import Path

import requests
from filelock import FileLock
from huggingface_hub import constants
from requests.adapters import HTTPAdapter
from tqdm import tqdm
from urllib3.util import Retry

from hf_musiclf.errors import UserError

CHUNK_BYTES, HASH_BYTES = 1 << 16, 1 << 20  # what a break may cost; what is hashed at once
CONNECT_SECONDS, READ_SECONDS = 10, 60
# A file of many hours outlives a short outage: attempts in a row without a new byte, after 1, 2, 4, 8 and 16 s.
MAX_ATTEMPTS = 5
WAIT_SECONDS = 1.0
# What servers answer when they are busy: urllib3 asks again, after 0, 2 and 4 s.
BUSY = Retry(3, backoff_factor=1.0, status_forcelist=(408, 429, 500, 502, 503, 504), raise_on_status=False)
# The bytes as they are: a packed transfer would count other bytes than a Range does.
HEADERS = {"Accept-Encoding": "identity"}


def download_file(url: str, target: Path, sha256: str | None, size_note: str, what: str) -> Path:
    """Download `url` to `target`, unless it is there already; returns `target`.

    sha256: hex digest of the whole file, None where none is published: then the caller checks it. size_note: its size
    in words, where the server tells none. what: its name in messages. What has come so far stands in `target` +
    ".part": a second call goes on from there. Processes that want the same file wait for the first one.

    Raises UserError if HF_HUB_OFFLINE is set, the server cannot be reached or has no such file, the connection breaks
    for good (the part is kept), the disk has no room, or the digest is another (the part is deleted); OSError where the
    disk fills up on the way.
    """
    if target.exists():
        return target
    if constants.HF_HUB_OFFLINE:
        told = f"HF_HUB_OFFLINE is set; unset it, or fetch {url} elsewhere and put it at {target}"
        raise UserError(f"{what} cannot be downloaded: {told}")
    target.parent.mkdir(parents=True, exist_ok=True)
    part = target.with_name(target.name + ".part")
    with FileLock(target.with_name(target.name + ".lock")), requests.Session() as session:
        if target.exists():  # another process was first
            return target
        for scheme in ("http://", "https://"):
            session.mount(scheme, HTTPAdapter(max_retries=BUSY))
        total = _size_bytes(session, url, what)
        have = _start(part, total)
        _check_space(part, total, have, what)
        there = f"; {_told(have)} of it are here already" if have else ""
        print(f"Downloading {what}, {_told(total) if total else size_note}, from {url} to {target}{there}", flush=True)
        _fetch(session, url, part, total, what)
        if sha256:
            _check_digest(part, sha256, what)
        os.replace(part, target)
    return target


def _size_bytes(session, url, what):
    """The file's size, None where the server does not tell it. Raises UserError where there is no such file."""
    try:
        answer = session.head(url, headers=HEADERS, timeout=(CONNECT_SECONDS, READ_SECONDS), allow_redirects=True)
    except requests.RequestException as error:
        raise UserError(
            f"{what} cannot be downloaded: {url} cannot be reached ({_reason(error)}); try later"
        ) from error
    # Some servers answer a GET alone.
    if answer.status_code in (requests.codes.method_not_allowed, requests.codes.not_implemented):
        return None
    _check_status(answer, url, what)
    return int(answer.headers.get("Content-Length") or 0) or None


def _check_status(answer, url, what):
    if not answer.ok:
        told = f"{url} answers {answer.status_code} {answer.reason}"
        raise UserError(f"{what} cannot be downloaded: {told}; try later, or check whether the address still holds")


def _start(part, total):
    """Bytes that are here already; a part longer than the file is not of this file and is deleted."""
    have = part.stat().st_size if part.exists() else 0
    if total and have > total:
        part.unlink()
        return 0
    return have


def _check_space(part, total, have, what):
    free = shutil.disk_usage(part.parent).free
    if total and total - have > free:
        told = f"{_told(total - have)} are to come, and {part.parent} has {_told(free)} free"
        raise UserError(f"{what} does not fit: {told}; free some, or choose a folder on another disk")


def _fetch(session, url, part, total, what):
    """Append to `part` until it is whole; a broken connection is taken up again."""
    attempts, have = 0, _start(part, total)
    with tqdm(total=total, initial=have, desc=what, unit="B", unit_scale=True) as bar:
        while have != total:
            try:
                _fetch_rest(session, url, part, have, total, what, bar)
                return
            except requests.RequestException as error:
                before, have = have, _start(part, total)
                attempts = 0 if have > before else attempts + 1
                if attempts > MAX_ATTEMPTS:
                    told = f"after {_told(have)}{f' of {_told(total)}' if total else ''} ({_reason(error)})"
                    way_out = "run the same command again: it goes on from there"
                    raise UserError(f"{what}: the connection broke {told}; {way_out}") from error
                time.sleep(WAIT_SECONDS * 2 ** (attempts - 1) if attempts else 0)


def _fetch_rest(session, url, part, have, total, what, bar):
    """One request for the bytes from `have` on. Raises requests.RequestException where it breaks."""
    headers = HEADERS | ({"Range": f"bytes={have}-"} if have else {})
    with session.get(url, headers=headers, timeout=(CONNECT_SECONDS, READ_SECONDS), stream=True) as answer:
        if answer.status_code == requests.codes.requested_range_not_satisfiable:
            return  # nothing beyond what is here; the digest tells whether it is the file
        _check_status(answer, url, what)
        goes_on = answer.status_code == requests.codes.partial_content
        # A server that ignores the range sends all of it.
        with part.open("ab" if goes_on else "wb") as file:
            bar.n, bar.initial = file.tell(), min(bar.initial, file.tell())
            for chunk in answer.iter_content(CHUNK_BYTES):
                file.write(chunk)
                bar.update(len(chunk))
            if total and file.tell() < total:
                raise requests.ConnectionError("ended early")


def _check_digest(part, sha256, what):
    digest = hashlib.sha256()
    with (
        part.open("rb") as file,
        tqdm(total=part.stat().st_size, desc=f"Checking {what}", unit="B", unit_scale=True) as bar,
    ):
        while chunk := file.read(HASH_BYTES):
            digest.update(chunk)
            bar.update(len(chunk))
    if digest.hexdigest() != sha256:
        part.unlink()
        told = f"has SHA-256 {digest.hexdigest()}, the published file has {sha256}"
        raise UserError(f"{what}: what came {told}; it was deleted, run the same command again")


def _told(n_bytes):
    """
    >>> _told(101_000_000_000), _told(12_345_678_900), _told(1_234_567)
    ('101 GB', '12.3 GB', '1.23 MB')
    """
    return f"{n_bytes / 1e9:.3g} GB" if n_bytes >= 1e9 else f"{n_bytes / 1e6:.3g} MB"


def _reason(error):
    return type(error).__name__
