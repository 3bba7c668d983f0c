"""What the program tells a user who asked for something it cannot do."""


class UsageError(Exception):
    """One line that says what is wrong and what to do; the program ends with exit code 2."""
