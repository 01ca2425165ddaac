"""Mounts and their daemons on this machine: find, start and unmount them."""
