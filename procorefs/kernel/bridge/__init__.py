"""Between libfuse and Python: the C extension, pyfuse3 behind it, notifications, interrupts, request polling."""
