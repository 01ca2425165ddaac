"""What `.procore` shows: the versions of every file, and the status of the mount."""
