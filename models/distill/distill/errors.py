"""The one error that the command line prints without a traceback."""


class DistillError(Exception):
    """Something that the user can mend: a missing file, a setting, a server that is not there."""
