"""The C core."""
