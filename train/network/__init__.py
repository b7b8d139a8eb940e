"""Gated networks: models, what their operations are, gates, units, the salience of channels, tails."""
