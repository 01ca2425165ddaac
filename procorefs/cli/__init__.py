"""The commands: they read settings, ask the daemon and talk to people."""
