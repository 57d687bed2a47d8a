"""Files inside a zip archive, read in place: nothing is unpacked to disk, nothing is held whole in memory.

A member is named as fsspec chains paths, and `datasets.Audio` with it: `zip://MEMBER::ARCHIVE`. The archive's directory
is read once in a process; each open member has a file handle of its own, so threads and forked workers do not meet.
"""

import io
import os
import struct
import zipfile
from collections.abc import Mapping
from functools import lru_cache
from pathlib import Path, PurePosixPath
from types import MappingProxyType

from hf_musiclf.errors import UserError
from hf_musiclf.zip_streams import LOCAL_SIGNATURE, DeflatedMember, MemberFile, StoredMember

PREFIX, CHAIN = "zip://", "::"

STREAMS = {zipfile.ZIP_STORED: StoredMember, zipfile.ZIP_DEFLATED: DeflatedMember}
BUFFER_BYTES = 1 << 16  # libsndfile asks for 8 kB and less at a time
ENCRYPTED = 0x1  # bit 0 of the general purpose flag (PKWARE's APPNOTE.TXT 6.3.10, 4.4.4)


def member_path(archive: str | os.PathLike, member: str) -> str:
    """`zip://MEMBER::ARCHIVE`. Raises UserError where a name holds what separates the two.

    >>> member_path("maestro.zip", "2018/a.wav")
    'zip://2018/a.wav::maestro.zip'
    """
    for name in (member, os.fspath(archive)):
        if CHAIN in name:
            raise UserError(f"{name!r} holds {CHAIN!r}, which separates member and archive in a path; rename it")
    return f"{PREFIX}{member}{CHAIN}{os.fspath(archive)}"


def is_member_path(path) -> bool:
    """Whether `path` is a string of the form `zip://MEMBER::ARCHIVE`."""
    return isinstance(path, str) and path.startswith(PREFIX) and CHAIN in path


def split_member_path(path: str) -> tuple[str, str]:
    """`(member, archive)` of a path by `member_path`."""
    assert is_member_path(path), path
    member, _, archive = path.removeprefix(PREFIX).partition(CHAIN)
    return member, archive


def short_name(path: str) -> str:
    """What to call a member in an error: the last two parts of its name, as for a file."""
    return "/".join(PurePosixPath(split_member_path(path)[0]).parts[-2:])


def members(archive: str | os.PathLike) -> Mapping[str, zipfile.ZipInfo]:
    """The archive's files by name, in its order; read again if its size or time has changed.

    Raises UserError if it is missing, a folder, no zip, cut short, or its directory is damaged.
    """
    name = Path(archive).name
    try:
        status = os.stat(archive)
        return _directory(os.fspath(archive), status.st_size, status.st_mtime_ns)
    except OSError as error:
        raise UserError(f"{name}: cannot be opened ({error.strerror}); check the path") from error
    except (zipfile.BadZipFile, NotImplementedError, ValueError, EOFError, struct.error) as error:
        with open(archive, "rb") as file:
            begins_as_zip = file.read(4) == LOCAL_SIGNATURE
        if not begins_as_zip:
            raise UserError(f"{name}: is no zip archive; check the path") from error
        # Without a directory at its end, zipfile would say that it is no zip file.
        raise UserError(f"{name}: is cut short, or its directory is damaged; fetch the archive again") from error


# A corpus has one archive, seldom a few.
@lru_cache(maxsize=8)
def _directory(archive: str, size_bytes: int, mtime_ns: int) -> Mapping[str, zipfile.ZipInfo]:
    with zipfile.ZipFile(archive) as file:
        return MappingProxyType({info.filename: info for info in file.infolist() if not info.is_dir()})


def member_info(path: str) -> zipfile.ZipInfo:
    """The directory's entry of a member. Raises UserError as `members` does, and where there is none of this name."""
    member, archive = split_member_path(path)
    info = members(archive).get(member)
    if info is None:
        raise UserError(f"{short_name(path)}: no such member in {Path(archive).name}; check the path")
    return info


def open_member(path: str) -> MemberFile:
    """The member as an unbuffered binary file; to be closed. Opening and seeking read nothing of its content.

    Raises UserError as `member_info` does, if the member's header is damaged, if it is encrypted, or if its compression
    is neither store nor deflate. For what reading raises see `MemberFile`.
    """
    info = member_info(path)
    archive = split_member_path(path)[1]
    name = f"{short_name(path)} in {Path(archive).name}"
    way_out = "unpack the archive and pass the folder"
    if info.flag_bits & ENCRYPTED:
        raise UserError(f"{name}: is encrypted; {way_out}")
    if info.compress_type not in STREAMS:
        told = f"is compressed by method {info.compress_type}; only 0 (store) and 8 (deflate) can be read in place"
        raise UserError(f"{name}: {told}; {way_out}")
    return STREAMS[info.compress_type](name, archive, info)


class MemberStream(io.BufferedReader):
    """A member for libsndfile, whose callbacks print an exception and go on: it is kept, and raised by `check`.

    After an error the member seems to end. Opening raises UserError as `open_member` does.
    """

    def __init__(self, path: str):
        super().__init__(open_member(path), BUFFER_BYTES)
        self.error = None

    def readinto(self, buffer):
        try:
            return super().readinto(buffer)
        except UserError as error:
            self.error = error
            return 0

    def check(self, to_the_end=False):
        """Raise the UserError of a read, if any; to_the_end: read what is left as well, which checks the CRC-32."""
        if self.error is None and to_the_end:
            self.raw.check_rest()
        if self.error is not None:
            raise self.error
