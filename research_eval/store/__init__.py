"""The store: runs, metrics and artifacts in SQLite or PostgreSQL; the only place that knows SQL."""
