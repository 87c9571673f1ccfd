"""Importing a file of conversions: any size, in flat memory, safe to interrupt and to repeat."""
