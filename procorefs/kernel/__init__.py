"""Handles FUSE requests: checks each one, makes one call into another package, and translates the result."""
