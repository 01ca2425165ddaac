"""The FUSE face: what the kernel asks is checked here, answered by one call into a room, and translated back."""
