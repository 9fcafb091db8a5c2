"""The trash, requests to stop, and how far spools have been taken in."""

import secrets

from alembic import op
from sqlalchemy import BigInteger, Column, Text, text

revision = "0002"
down_revision = "0001"


def upgrade() -> None:
    """Add the columns in place, since making `experiments` anew would cascade to its points."""
    op.add_column("experiments", Column("deleted", Text))
    op.add_column("experiments", Column("stop_requested", Text))
    unacknowledged = Column("unacknowledged", BigInteger, nullable=False, server_default=text("0"))
    op.add_column("experiments", unacknowledged)
    identity = op.create_table("identity", Column("id", Text, primary_key=True))
    op.bulk_insert(identity, [{"id": secrets.token_hex(8)}])
    op.create_table(
        "spools",
        Column("segment", Text, primary_key=True),
        Column("committed", BigInteger, nullable=False),
    )
