"""The one exception that users see, and the kind of it that a sweep goes on after.

Knows nothing about where it is raised; the command line turns it into one sentence and exit code 2.
"""


class LetterwiseError(Exception):
    """Something the user can put right: bad input, a missing file, no network.

    The message is one sentence that says what is wrong and, where there is one, the remedy.
    """


class DivergedError(LetterwiseError):
    """The loss is no longer a number: these settings do not train, and others may."""
