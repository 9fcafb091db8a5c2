"""Where the loops that people have meet `research_eval.track`; one file for each library.

Each file imports its library, so import the one that you need:

    from research_eval.adapters.transformers import TrackingCallback
"""
