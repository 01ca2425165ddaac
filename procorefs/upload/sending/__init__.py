"""Sends one change to Procore: makes the calls that were planned, and applies their answers."""
