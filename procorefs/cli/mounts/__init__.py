"""Mounts and their daemons as the system shows them: found, started, and taken away."""
