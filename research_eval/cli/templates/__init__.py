"""Files to start from, as `research-eval new` writes them."""
