"""The package for browsers, tested by its own tools."""
