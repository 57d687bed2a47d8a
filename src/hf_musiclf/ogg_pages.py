"""Where the last page of an Ogg file begins in time, without decoding: RFC 3533, section 6, has the page's layout."""

import struct

CAPTURE = b"OggS"
HEADER = struct.Struct("<4sBBqIIIB")  # capture, version, flags, granule position, serial, number, CRC, segments
LARGEST_PAGE_BYTES = HEADER.size + 255 + 255 * 255
ENDS, NO_PACKET_ENDS = 0x04, -1


def frames_before_last_page(file, frames: int) -> int | None:
    """The frame that the last page but one ends with: what comes before it does not lie in the last page.

    file: binary and seekable; it is left anywhere. frames: of all of it, as the decoder counts them. None where the
    tail is not that of a single stream of just so many frames: chained, multiplexed, cut short, of one page, or one on
    whose last page but one no packet ends.
    """
    size = file.seek(0, 2)
    file.seek(max(0, size - 2 * LARGEST_PAGE_BYTES))
    tail = file.read()
    last = _page_ending_at(tail, len(tail))
    before = _page_ending_at(tail, last[0]) if last else None
    if before is None:
        return None
    (_, last_flags, last_granule, last_serial), (_, flags, granule, serial) = last, before
    sound = last_serial == serial and last_flags & ENDS and not flags & ENDS and last_granule == frames
    return granule if sound and granule != NO_PACKET_ENDS and granule <= frames else None


def _page_ending_at(data: bytes, end: int) -> tuple[int, int, int, int] | None:
    """`(begin, flags, granule, serial)` of the page that ends just there, or None."""
    begin = data.rfind(CAPTURE, 0, end)
    while begin >= 0 and end - begin <= LARGEST_PAGE_BYTES:
        if begin + HEADER.size <= end:
            _, version, flags, granule, serial, _, _, segments = HEADER.unpack_from(data, begin)
            lengths = data[begin + HEADER.size : begin + HEADER.size + segments]
            if version == 0 and begin + HEADER.size + segments + sum(lengths) == end:
                return begin, flags, granule, serial
        begin = data.rfind(CAPTURE, 0, begin + len(CAPTURE) - 1)
    return None
