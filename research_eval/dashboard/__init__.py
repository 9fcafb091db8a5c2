"""A local web page over a store. It reads, and can do nothing else.

server      listens, and ends within a second
guard       refuses what a page of the same machine would never ask
app         which address answers what
pages       HTML, styles and scripts
live        tells open pages that something has changed
asking      parameters of a request, each with its bounds
answers     JSON, CSV, and errors as RFC 9457 has them
api/        what the addresses below /api/v1 answer
"""
