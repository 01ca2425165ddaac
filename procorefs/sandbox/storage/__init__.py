"""The storage host: bytes of versions out, bytes of uploads in, by signed addresses."""
