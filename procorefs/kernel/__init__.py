"""FUSE requests in and out: each is checked here, answered by one call into a collaborator, and translated back."""
