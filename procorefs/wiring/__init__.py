"""Builds the objects of one mount; daemon.py runs them."""
