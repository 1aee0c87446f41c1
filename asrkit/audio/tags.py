"""ID3 and APE tags (title, artist, pictures), which programs write before and after audio."""

from __future__ import annotations

import struct

# Number of bytes from the beginning of a tag that `tag_bytes` needs.
TAG_HEAD_BYTES = 32


def tag_bytes(head: bytes) -> int:
    """The length in bytes of the tag that begins with `head`; 0 if no tag begins like this."""
    if head.startswith(b"ID3") and len(head) >= 10:
        size = sum((byte & 127) << shift for byte, shift in zip(head[6:10], (21, 14, 7, 0), strict=True))
        return 10 + size + (10 if head[5] & 0x10 else 0)
    if head.startswith(b"APETAGEX") and len(head) >= 24:
        size, flags = struct.unpack_from("<I4xI", head, 12)
        return 32 + size if flags & 0x20000000 else 32
    if head.startswith(b"TAG+"):
        return 227
    return 128 if head.startswith(b"TAG") else 0
