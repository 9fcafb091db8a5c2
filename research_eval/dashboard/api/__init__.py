"""What the addresses below /api/v1 answer: functions from what is asked to values for JSON."""
