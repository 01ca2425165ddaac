"""Decides which change is sent next, when, and what it waits for; sends nothing itself."""
