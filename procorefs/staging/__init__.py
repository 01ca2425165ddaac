"""Bytes that exist only here: staged files, their quota and what they lack."""
