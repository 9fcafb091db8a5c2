"""The tables, in plain SQLAlchemy Core.

Tables that people read are joined by the text `experiment_id`; the two that grow with training,
`metric_points` and `expert_stats`, use small integer keys (31 bytes a point, against 281 with
text keys). Times are ISO-8601 text in UTC by the database's clock; only a point's `time` is
Unix seconds by the clock of the process that logged it.

A value that is NaN is stored as NULL: SQLite would turn a bound NaN into NULL anyway, and a row
exists only where there is a value, so nothing else can be meant. Infinities are stored as they
are.
"""

from __future__ import annotations

from typing import Any

from sqlalchemy import (
    DDL,
    BigInteger,
    Boolean,
    Column,
    ColumnElement,
    Double,
    ForeignKey,
    Index,
    Integer,
    LargeBinary,
    MetaData,
    PrimaryKeyConstraint,
    Select,
    String,
    Table,
    Text,
    event,
    or_,
    select,
    text,
)
from sqlalchemy.ext.compiler import compiles
from sqlalchemy.sql.functions import FunctionElement

REVISIONS = ("0001", "0002")
"""Every schema version in order, as the files of `migrations/versions` name them."""

VERSION_TABLE = "research_eval_version"
"""Not `alembic_version`: Optuna and MLflow would take that for their own in a shared database."""

metadata = MetaData(
    naming_convention={
        "uq": "uq_%(table_name)s_%(column_0_name)s",
        "fk": "fk_%(table_name)s_%(column_0_name)s",
        "ix": "ix_%(table_name)s_%(column_0_name)s",
    }
)


class utc_now(FunctionElement[str]):  # noqa: N801 - named like the SQL function that it stands for
    """The database's clock as ISO-8601 text in UTC, to the millisecond."""

    type = Text()
    inherit_cache = True


@compiles(utc_now, "sqlite")
def _utc_now_sqlite(element: utc_now, compiler: Any, **kw: Any) -> str:  # noqa: ARG001 - SQLAlchemy's signature
    return "strftime('%Y-%m-%dT%H:%M:%fZ', 'now')"


@compiles(utc_now, "postgresql")
def _utc_now_postgresql(element: utc_now, compiler: Any, **kw: Any) -> str:  # noqa: ARG001 - SQLAlchemy's signature
    return """to_char(clock_timestamp() AT TIME ZONE 'utc', 'YYYY-MM-DD"T"HH24:MI:SS.MS"Z"')"""


def _belongs_to_run(**options: Any) -> Column[str]:
    """Return the text key that joins a table to its run."""
    run = ForeignKey("experiments.experiment_id", ondelete="CASCADE")
    return Column("experiment_id", Text, run, nullable=False, **options)


# As Alembic would make it.
version = Table(
    VERSION_TABLE,
    metadata,
    Column("version_num", String(32), nullable=False),
    PrimaryKeyConstraint("version_num", name=f"{VERSION_TABLE}_pkc"),
)

schemas = Table(
    "schemas",
    metadata,
    Column("hash", Text, primary_key=True),
    Column("schema_json", Text, nullable=False),
)

studies = Table(
    "studies",
    metadata,
    Column("name", Text, primary_key=True),
    Column("timestamp", Text, nullable=False),
    Column("spec_json", Text, nullable=False),
)

experiments = Table(
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
    # No foreign key: an exported run may travel without its study.
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
    # When the run was put into the trash; NULL for one that is not in it.
    Column("deleted", Text),
    # When somebody asked the run to stop.
    Column("stop_requested", Text),
    # Points that could not be kept when they were logged, for example on a full disk.
    Column("unacknowledged", BigInteger, nullable=False, server_default=text("0")),
)

attempts = Table(
    "attempts",
    metadata,
    Column("run_id", Integer, ForeignKey("experiments.id", ondelete="CASCADE"), primary_key=True),
    Column("attempt", Integer, primary_key=True),
    Column("status", Text, nullable=False),
    Column("started", Text, nullable=False),
    Column("ended", Text),
    Column("host", Text),
    Column("pid", Integer),
    # Step of the resume point this attempt started from; NULL for a start from nothing.
    Column("resumed_step", BigInteger),
    # A later attempt started from this step: later points of this attempt are superseded.
    Column("valid_to_step", BigInteger),
)

params = Table(
    "params",
    metadata,
    _belongs_to_run(primary_key=True),
    Column("param_name", Text, primary_key=True),
    # A string as it is, anything else as JSON.
    Column("param_value", Text, nullable=False),
    # The value of a number, 0 or 1 for a Boolean, NULL for anything else.
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

names = Table(
    "names",
    metadata,
    Column("id", Integer, primary_key=True),
    Column("name", Text, nullable=False, unique=True),
)

metric_points = Table(
    "metric_points",
    metadata,
    Column("run_id", Integer, ForeignKey("experiments.id", ondelete="CASCADE"), primary_key=True),
    Column("name_id", Integer, ForeignKey("names.id"), primary_key=True),
    Column("step", BigInteger, primary_key=True),
    Column("attempt", Integer, primary_key=True),
    # Number of the `log` call within the attempt: a repeated step is another point.
    Column("seq", BigInteger, primary_key=True),
    Column("value", Double),
    Column("time", Double, nullable=False),
    sqlite_with_rowid=False,
)

expert_stats = Table(
    "expert_stats",
    metadata,
    Column("run_id", Integer, ForeignKey("experiments.id", ondelete="CASCADE"), primary_key=True),
    Column("name_id", Integer, ForeignKey("names.id"), primary_key=True),
    Column("step", BigInteger, primary_key=True),
    Column("layer", Integer, primary_key=True),
    Column("attempt", Integer, primary_key=True),
    # numpy's spelling of type and byte order, for example '<f4'.
    Column("dtype", Text, nullable=False),
    # JSON list of sizes.
    Column("shape", Text, nullable=False),
    Column("data", LargeBinary, nullable=False),
)

artifacts = Table(
    "artifacts",
    metadata,
    _belongs_to_run(primary_key=True),
    Column("path", Text, primary_key=True),
    Column("kind", Text, nullable=False),
    Column("sha256", Text, nullable=False),
    Column("bytes", BigInteger, nullable=False),
)

flags = Table(
    "flags",
    metadata,
    _belongs_to_run(primary_key=True),
    Column("name", Text, primary_key=True),
    Column("reason", Text, nullable=False),
)

tags = Table(
    "tags",
    metadata,
    _belongs_to_run(primary_key=True),
    Column("tag", Text, primary_key=True),
)

notes = Table(
    "notes",
    metadata,
    Column("id", Integer, primary_key=True),
    _belongs_to_run(index=True),
    Column("timestamp", Text, nullable=False),
    Column("note", Text, nullable=False),
)

# One row: a random name of this database, which finds the spools of a server.
identity = Table("identity", metadata, Column("id", Text, primary_key=True))

# How far each file of a spool has become rows; written in one transaction with them.
spools = Table(
    "spools",
    metadata,
    Column("segment", Text, primary_key=True),
    Column("committed", BigInteger, nullable=False),
)


def of_current_attempts(table: Table, *columns: ColumnElement[Any]) -> Select[Any]:
    """Return a query over `metric_points` or `expert_stats` without superseded rows."""
    attempt = (attempts.c.run_id == table.c.run_id) & (attempts.c.attempt == table.c.attempt)
    is_valid = or_(attempts.c.valid_to_step.is_(None), table.c.step <= attempts.c.valid_to_step)
    return (
        select(*columns)
        .select_from(table)
        .join(experiments, experiments.c.id == table.c.run_id)
        .join(names, names.c.id == table.c.name_id)
        .join(attempts, attempt)
        .where(is_valid)
    )


_HISTORY = of_current_attempts(
    metric_points,
    experiments.c.experiment_id,
    names.c.name.label("metric_name"),
    metric_points.c.step,
    metric_points.c.value.label("metric_value"),
    metric_points.c.time,
)

_VIEW = DDL(f"CREATE VIEW metric_history AS {_HISTORY}")  # type: ignore[no-untyped-call]  # SQLAlchemy leaves it untyped
event.listen(metadata, "after_create", _VIEW)
