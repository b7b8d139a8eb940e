"""Cascades: networks of growing size, each of which answers where it is sure, and the last in any case."""
