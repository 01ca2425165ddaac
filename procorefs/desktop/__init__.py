"""Tells the person at the desktop what needs attention, through the session's notification service."""
