"""The root of the services' errors."""


class OpsError(Exception):
    """A service cannot do what was requested; the message is one sentence for the operator."""
