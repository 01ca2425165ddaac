"""Restores at the start what an earlier run left: its changes, their staged bytes, and the calls under way."""
