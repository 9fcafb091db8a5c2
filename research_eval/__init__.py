"""research-eval: an experiment platform for mixture-of-experts research."""
