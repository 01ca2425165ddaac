"""A running mount seen from outside: control socket, status, and the lock on its state."""
