"""Tracks that the page holds: in memory, for a few minutes; the file that came is deleted within seconds."""

import secrets
import threading
from contextlib import suppress
from pathlib import Path

from hf_musiclf.errors import UserError

# The player in the page fetches the file right after it came; then nobody needs it on disk.
FILE_SECONDS = 3.0
# As long as another model may be asked about the same track.
HELD_SECONDS = 600.0


class Uploads:
    """Tracks by a token that only the page's own session knows.

    folder: where Gradio writes what is dropped; nothing outside of it is deleted. most: tracks held at a time, the
    oldest goes first; each is as large as a file may be.
    """

    def __init__(self, folder: Path, most: int = 40):
        self.folder, self.most = folder.resolve(), most
        self.held: dict[str, tuple[str, bytes]] = {}
        self.lock = threading.Lock()

    def take(self, upload: str | Path) -> str:
        """The token of an upload, whose file goes after FILE_SECONDS. Raises UserError where the file is gone."""
        path = Path(upload)
        try:
            data, inode = path.read_bytes(), path.stat().st_ino
        except FileNotFoundError as error:
            raise UserError(f"{path.name} is no longer here; drop it again") from error
        _later(FILE_SECONDS, self.delete_file, path, inode)
        return self.hold(path.name, data)

    def hold(self, name: str, data: bytes) -> str:
        """The token of a file with this name and content."""
        token = secrets.token_hex(16)
        with self.lock:
            self.held[token] = name, data
            while len(self.held) > self.most:
                del self.held[next(iter(self.held))]
        _later(HELD_SECONDS, self.forget, token)
        return token

    def get(self, token: str) -> tuple[str, bytes]:
        """Name and content. Raises UserError where they are forgotten."""
        try:
            return self.held[token]
        except KeyError:
            raise UserError("this track is no longer held; drop it again") from None

    def forget(self, token: str | None) -> None:
        with self.lock:
            self.held.pop(token, None)

    def delete_file(self, path: Path, inode: int) -> None:
        """Delete an upload and the folder that Gradio made for it, unless the same music was dropped again since.

        Gradio names the folder by the content: somebody else's upload may by now stand in the same place.
        """
        path = path.resolve()
        if self.folder not in path.parents:
            return
        with suppress(OSError):  # gone already, or another file of the same content stands beside it
            if path.stat().st_ino == inode:
                path.unlink()
                path.parent.rmdir()


def _later(seconds: float, function, *args) -> None:
    timer = threading.Timer(seconds, function, args)
    timer.daemon = True
    timer.start()
