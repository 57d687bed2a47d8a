"""The bytes of one member of a zip archive, by offset; `zip_members.open_member` opens them.

The layout of a zip: PKWARE's APPNOTE.TXT 6.3.10, sections 4.3.7 (local header) and 4.4.4 (flag).
"""

import bisect
import io
import struct
import zlib
from zipfile import ZipInfo

from hf_musiclf.errors import UserError

# Signature, version, flag, method, time, date; CRC-32, compressed and full size; bytes of the name and the extra field.
LOCAL_HEADER = struct.Struct("<4s5H3I2H")
LOCAL_SIGNATURE = b"PK\x03\x04"
UTF8_NAME = 0x800  # bit 11 of the flag; without it names are in code page 437

READ_BYTES = 1 << 16

# Going back in a deflated member starts at the nearest kept state. A state has some 40 kB (a window of 32 kB and the
# tables of zlib): 64 of them, spread evenly, are 3 MB, and a step back inflates at most 1/64 of the member anew.
MAX_STATES = 64
MIN_STATE_BYTES = 1 << 20


class MemberFile(io.RawIOBase):
    """A member, unpacked, as a file to read and seek in. size: bytes when unpacked.

    Reading raises UserError where the archive cannot be read, is cut short or damaged. The CRC-32 is checked once every
    byte was read, in whatever pieces, as long as the first reading of each comes in order; see `check_rest`.
    """

    def __init__(self, name: str, archive: str, info: ZipInfo):
        self.label, self.size = name, info.file_size
        self._expected_sum, self._sum, self._summed = info.CRC, 0, 0
        self._position = 0
        try:
            self._file = open(archive, "rb", buffering=0)
        except OSError as error:
            raise UserError(f"{name}: the archive cannot be opened ({error.strerror}); check the path") from error
        try:
            self._begin = self._begin_of_data(info)
        except UserError:
            self.close()
            raise
        self._end = self._begin + info.compress_size

    def readable(self):
        return True

    def seekable(self):
        return True

    def tell(self):
        return self._position

    def seek(self, offset, whence=io.SEEK_SET):
        base = {io.SEEK_SET: 0, io.SEEK_CUR: self._position, io.SEEK_END: self.size}[whence]
        self._position = max(0, base + offset)
        return self._position

    def readinto(self, buffer):
        view = memoryview(buffer).cast("B")
        wanted = min(len(view), self.size - self._position)
        if wanted <= 0:
            return 0
        data = self._read_at(self._position, wanted)
        view[: len(data)] = data
        self._position += len(data)
        return len(data)

    def check_rest(self):
        """Read what has not been read in order yet, for the CRC-32. Raises UserError if the member is damaged."""
        while self._summed < self.size:
            self._read_at(self._summed, min(READ_BYTES, self.size - self._summed))

    def close(self):
        if hasattr(self, "_file"):
            self._file.close()
        super().close()

    def _begin_of_data(self, info):
        header = self._packed(info.header_offset, LOCAL_HEADER.size)
        if len(header) < LOCAL_HEADER.size or not header.startswith(LOCAL_SIGNATURE):
            raise self._damage("its header is not where the directory says")
        fields = LOCAL_HEADER.unpack(header)
        flag, name_bytes, extra_bytes = fields[2], *fields[-2:]
        begin = info.header_offset + LOCAL_HEADER.size
        name = self._packed(begin, name_bytes).decode("utf-8" if flag & UTF8_NAME else "cp437", "replace")
        if name != info.orig_filename:
            raise self._damage("its header has another name than the directory")
        return begin + name_bytes + extra_bytes

    def _packed(self, offset, size):
        """Bytes of the archive itself: fewer than `size` at its end."""
        try:
            self._file.seek(offset)
            return self._file.read(size)
        except OSError as error:
            raise UserError(f"{self.label}: cannot be read ({error.strerror}); check the disk") from error

    def _damage(self, what):
        return UserError(f"{self.label}: is damaged ({what}); fetch the archive again")

    def _add_to_sum(self, position, data):
        """Take in the part of `data`, found at `position`, that follows the bytes summed so far."""
        if not position <= self._summed < position + len(data):
            return
        self._sum = zlib.crc32(memoryview(data)[self._summed - position :], self._sum)
        self._summed = position + len(data)
        if self._summed == self.size and self._sum != self._expected_sum:
            raise self._damage("its CRC-32 is not the one in the directory")

    def _read_at(self, position, size):
        """One to `size` bytes of the member from `position` on; `position + size` lies within the member."""
        raise NotImplementedError


class StoredMember(MemberFile):
    """A member that is not compressed: as fast as a plain file."""

    def _read_at(self, position, size):
        begin = self._begin + position
        data = self._packed(begin, min(size, self._end - begin))
        if not data:
            raise self._damage(f"it ends after {position} of {self.size} bytes")
        self._add_to_sum(position, data)
        return data


class DeflatedMember(MemberFile):
    """A deflated member: the first reading at a position inflates all that comes before it."""

    def __init__(self, name, archive, info):
        super().__init__(name, archive, info)
        self._state_bytes = max(MIN_STATE_BYTES, self.size // MAX_STATES)
        # (bytes inflated, offset in the archive of the next ones to feed, inflater); ascending.
        self._states = [(0, self._begin, zlib.decompressobj(-zlib.MAX_WBITS))]
        self._enter(self._states[0])

    def _enter(self, state):
        self._inflated, self._offset, inflater = state
        self._inflater = inflater.copy()

    def _read_at(self, position, size):
        nearest = self._states[bisect.bisect_right(self._states, position, key=lambda state: state[0]) - 1]
        if position < self._inflated or nearest[0] > self._inflated:
            self._enter(nearest)
        while self._inflated < position:
            self._inflate(min(READ_BYTES, position - self._inflated))
        return self._inflate(size)

    def _inflate(self, size):
        """The next one to `size` bytes."""
        data = b""
        while not data:
            fed = self._inflater.unconsumed_tail
            if not fed:
                fed = self._packed(self._offset, min(READ_BYTES, self._end - self._offset))
                self._offset += len(fed)
            try:
                data = self._inflater.decompress(fed, size)
            except zlib.error as error:
                raise self._damage(str(error)) from error
            if not data and (self._inflater.eof or not fed):
                raise self._damage(f"it ends after {self._inflated} of {self.size} bytes")
        position = self._inflated
        self._inflated += len(data)
        if self._inflated - self._states[-1][0] >= self._state_bytes and not self._inflater.eof:
            self._states.append((self._inflated, self._offset, self._inflater.copy()))
        self._add_to_sum(position, data)
        return data
