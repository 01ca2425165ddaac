"""Tokens: got, renewed and kept."""
