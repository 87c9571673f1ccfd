"""Everything on one machine: embedded server, local stack, demo."""
