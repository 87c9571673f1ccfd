"""Dead letters in the store: their causes, indexes and queries."""
