"""One file per table or figure of the report; each ends in its `OUTPUTS`.

A file here is found without being announced: write a function from evidence to a frame, say how it
is drawn and what it supports, and it stands in every report.
"""
