"""Bytes of versions: the chunk cache, and the downloads that fill it."""
