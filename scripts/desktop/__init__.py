"""Measures what desktop programs cost on a mount."""
