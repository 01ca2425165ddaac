"""Caches the bytes of versions on disk, downloads what is missing, and reads ahead."""
