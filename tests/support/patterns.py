"""Content of which every piece tells from which version it is and where it lay."""

BLOCK_BYTES = 4096


def pattern(tag: int, size_bytes: int) -> bytes:
    """The bytes of version `tag`: no two versions share a line, no two blocks of one version either."""
    blocks = -(-size_bytes // BLOCK_BYTES)
    whole = b"".join(b"%03d:%011d\n" % (tag, number) * (BLOCK_BYTES // 16) for number in range(blocks))
    return whole[:size_bytes]


def tags_in(data: bytes) -> set[int]:
    """From which versions the pieces are, for messages."""
    return {
        int(line[:3])
        for line in data[::BLOCK_BYTES].splitlines() + data.splitlines()[:-1]
        if line[:3].isdigit()
    }
