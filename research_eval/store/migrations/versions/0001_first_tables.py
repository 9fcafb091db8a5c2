"""The first tables."""

from typing import Any

from alembic import op
from sqlalchemy import (
    BigInteger,
    Boolean,
    Column,
    Double,
    ForeignKey,
    Index,
    Integer,
    LargeBinary,
    MetaData,
    Table,
    Text,
)

revision = "0001"
down_revision = None

metadata = MetaData(
    naming_convention={
        "uq": "uq_%(table_name)s_%(column_0_name)s",
        "fk": "fk_%(table_name)s_%(column_0_name)s",
        "ix": "ix_%(table_name)s_%(column_0_name)s",
    }
)

HISTORY = """CREATE VIEW metric_history AS SELECT experiments.experiment_id, \
names.name AS metric_name, metric_points.step, metric_points.value AS metric_value, \
metric_points.time
FROM metric_points JOIN experiments ON experiments.id = metric_points.run_id \
JOIN names ON names.id = metric_points.name_id \
JOIN attempts ON attempts.run_id = metric_points.run_id \
AND attempts.attempt = metric_points.attempt
WHERE attempts.valid_to_step IS NULL OR metric_points.step <= attempts.valid_to_step"""


def _belongs_to_run(**options: Any) -> Column[str]:
    run = ForeignKey("experiments.experiment_id", ondelete="CASCADE")
    return Column("experiment_id", Text, run, nullable=False, **options)


Table(
    "schemas",
    metadata,
    Column("hash", Text, primary_key=True),
    Column("schema_json", Text, nullable=False),
)

Table(
    "studies",
    metadata,
    Column("name", Text, primary_key=True),
    Column("timestamp", Text, nullable=False),
    Column("spec_json", Text, nullable=False),
)

Table(
    "experiments",
    metadata,
    Column("id", Integer, primary_key=True),
    Column("experiment_id", Text, nullable=False, unique=True),
    Column("run_type", Text, nullable=False),
    Column("timestamp", Text, nullable=False, index=True),
    Column("experiment_name", Text, nullable=False),
    Column("model_type", Text),
    Column("dataset_name", Text),
    Column("dataset_type", Text),
    Column("epochs", Integer),
    Column("batch_size", Integer),
    Column("full_config_json", Text, nullable=False),
    Column("env_details_json", Text, nullable=False),
    Column("project", Text),
    Column("group_name", Text),
    Column("parent", Text, ForeignKey("experiments.experiment_id")),
    Column("phase", Text),
    Column("status", Text, nullable=False),
    Column("attempt", Integer, nullable=False),
    Column("seed", BigInteger),
    Column("study", Text),
    Column("trial", Integer),
    Column("config_hash", Text, index=True),
    Column("code_hash", Text),
    Column("data_hash", Text),
    Column("schema_hash", Text, ForeignKey("schemas.hash")),
    Column("git_commit", Text),
    Column("git_diff", Text),
    Column("argv", Text),
    Column("hardware", Text),
    Column("host", Text),
    Column("pid", Integer),
    Column("process", Text),
    Column("heartbeat", Text),
    Column("ended", Text),
    Column("error", Text),
    Column("contended", Boolean, nullable=False),
)

Table(
    "attempts",
    metadata,
    Column("run_id", Integer, ForeignKey("experiments.id", ondelete="CASCADE"), primary_key=True),
    Column("attempt", Integer, primary_key=True),
    Column("status", Text, nullable=False),
    Column("started", Text, nullable=False),
    Column("ended", Text),
    Column("host", Text),
    Column("pid", Integer),
    Column("resumed_step", BigInteger),
    Column("valid_to_step", BigInteger),
)

params = Table(
    "params",
    metadata,
    _belongs_to_run(primary_key=True),
    Column("param_name", Text, primary_key=True),
    Column("param_value", Text, nullable=False),
    Column("param_number", Double),
    sqlite_with_rowid=False,
)
Index(None, params.c.param_name, params.c.param_number)

metrics = Table(
    "metrics",
    metadata,
    _belongs_to_run(primary_key=True),
    Column("metric_name", Text, primary_key=True),
    Column("metric_value", Double),
    Column("step", BigInteger, nullable=False),
    Column("min_value", Double),
    Column("min_step", BigInteger),
    Column("max_value", Double),
    Column("max_step", BigInteger),
    Column("num_points", BigInteger, nullable=False),
    Column("num_nonfinite", BigInteger, nullable=False),
    sqlite_with_rowid=False,
)
Index(None, metrics.c.metric_name, metrics.c.metric_value)

Table(
    "names",
    metadata,
    Column("id", Integer, primary_key=True),
    Column("name", Text, nullable=False, unique=True),
)

Table(
    "metric_points",
    metadata,
    Column("run_id", Integer, ForeignKey("experiments.id", ondelete="CASCADE"), primary_key=True),
    Column("name_id", Integer, ForeignKey("names.id"), primary_key=True),
    Column("step", BigInteger, primary_key=True),
    Column("attempt", Integer, primary_key=True),
    Column("seq", BigInteger, primary_key=True),
    Column("value", Double),
    Column("time", Double, nullable=False),
    sqlite_with_rowid=False,
)

Table(
    "expert_stats",
    metadata,
    Column("run_id", Integer, ForeignKey("experiments.id", ondelete="CASCADE"), primary_key=True),
    Column("name_id", Integer, ForeignKey("names.id"), primary_key=True),
    Column("step", BigInteger, primary_key=True),
    Column("layer", Integer, primary_key=True),
    Column("attempt", Integer, primary_key=True),
    Column("dtype", Text, nullable=False),
    Column("shape", Text, nullable=False),
    Column("data", LargeBinary, nullable=False),
)

Table(
    "artifacts",
    metadata,
    _belongs_to_run(primary_key=True),
    Column("path", Text, primary_key=True),
    Column("kind", Text, nullable=False),
    Column("sha256", Text, nullable=False),
    Column("bytes", BigInteger, nullable=False),
)

Table(
    "flags",
    metadata,
    _belongs_to_run(primary_key=True),
    Column("name", Text, primary_key=True),
    Column("reason", Text, nullable=False),
)

Table(
    "tags",
    metadata,
    _belongs_to_run(primary_key=True),
    Column("tag", Text, primary_key=True),
)

Table(
    "notes",
    metadata,
    Column("id", Integer, primary_key=True),
    _belongs_to_run(index=True),
    Column("timestamp", Text, nullable=False),
    Column("note", Text, nullable=False),
)


def upgrade() -> None:
    """Make the tables and the view."""
    metadata.create_all(op.get_bind())
    op.execute(HISTORY)
