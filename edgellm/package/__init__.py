"""Packaging a bundle for where it runs: a static site for browsers."""
