"""Reads records back: tables, statistics, figures, and one report for each data set.

    from research_eval.analysis import Request, analyze, plot

    with Store.open("experiment_results.db", mode="ro") as store:
        reports = analyze(store, Request(candidate="moe"), folder=Path("analysis_reports"))

    plot(["first run", "last"], "val_loss")  # a figure, which a notebook shows

Everything is a function from evidence (the runs that count) to a table, and from a table to a
picture and to sentences. Neither torch nor the models are needed.
"""

from research_eval.analysis.analyzing import Report, analyze, analyze_again
from research_eval.analysis.plotting import plot
from research_eval.analysis.question import Request

__all__ = ["Report", "Request", "analyze", "analyze_again", "plot"]
