"""Connects libfuse and Python: the C extension, pyfuse3, notifications, interrupts, request polling."""
