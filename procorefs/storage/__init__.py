"""Helpers of several packages: clocks, SQLite and private files, events, failures, processes."""
