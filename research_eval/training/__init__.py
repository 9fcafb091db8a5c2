"""Training and evaluation: plain torch, reporting to a `Recorder`, knowing no store."""
