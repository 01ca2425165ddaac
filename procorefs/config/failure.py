"""What a person must hear, as an exception."""


class Failure(Exception):
    """One sentence: what happened, to what, what to do. Commands print it and end with `exit_status`."""

    exit_status = 1


class ConfigError(Failure):
    """A setting, from the file, the environment or the command line, that cannot be used."""
