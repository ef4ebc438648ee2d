"""The one exception a user meets: a line that names the thing and says what to do."""


class InfoscopeError(Exception):
    """A condition the user can act on.

    The message is one line: what is wrong, with the name of the file, flag or shape, and what to do. The
    command line prints it without a traceback and exits with status 2.

    Example:
        >>> raise InfoscopeError("no such folder: photos; check --images")
        Traceback (most recent call last):
        ...
        infoscope.errors.InfoscopeError: no such folder: photos; check --images
    """
