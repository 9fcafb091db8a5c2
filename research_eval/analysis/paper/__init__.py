"""What a paper takes from a report: tables in LaTeX, figures as PDF, and a file that pins both.

The tables and figures are those of the report, told and drawn for a column of print: every number
comes from the same functions.
"""
