"""Recorded runs looked at again: predictions, controls for their routing, latency, other data."""
