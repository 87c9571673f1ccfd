"""The delivery loop of one process, and one attempt of it."""
