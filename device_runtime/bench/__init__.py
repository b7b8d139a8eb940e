"""Latency of a bundle's programs on this machine."""
