"""The root of what the services refuse."""


class OpsError(Exception):
    """A service cannot do what it was asked; the message is one plain sentence for the operator."""
