"""What an exception is really about."""


def first_cause(error: BaseException) -> BaseException:
    """The error itself, or of a group, which a nursery makes of every error, the first one in it."""
    while isinstance(error, BaseExceptionGroup):
        error = error.exceptions[0]
    return error
