"""Talking to Trackdesk: sending one conversion, and reading what came back."""
