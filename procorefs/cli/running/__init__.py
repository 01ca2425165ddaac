"""The commands that change or follow a running mount through its control socket."""
