"""Connections to the store: addresses, bounded waiting, connections kept for reuse."""
