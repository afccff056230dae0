"""The one exception for what a user gave; the command line turns it into a line and exit code 2."""


class InputError(ValueError):
    """A value from the user that cannot be used; the message names it and what was needed."""
