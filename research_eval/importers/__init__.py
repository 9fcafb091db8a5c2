"""Runs that another tracker has recorded; one file for each tracker, loaded when it is asked for.

A reader is a function `read(path) -> Iterator[ForeignRun]`. It needs nothing of the tracker that
wrote: the formats are read as they lie on the disk, and a file that is not understood is refused.
"""
