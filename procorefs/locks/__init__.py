"""Locks: what programs hold of each other on this mount, and what of it is a check-out at Procore."""
