"""Packages made of bundles."""
