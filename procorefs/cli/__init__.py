"""The commands: they read settings, ask the daemon and print results."""
