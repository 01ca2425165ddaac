"""What exists below `.procore`: the versions of every file, and the mount's own status."""
