"""What several packages need: clocks, SQLite and private files, events, failures, processes."""
