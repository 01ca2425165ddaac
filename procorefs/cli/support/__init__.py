"""Code that several commands share: messages, progress, and the checks before a mount or a copy."""
