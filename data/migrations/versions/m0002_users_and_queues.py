"""Users and who is signed in; raters' queues; what an answer is about."""

import sqlalchemy as sa
from alembic import op

revision = "0002"
down_revision = "0001"


def upgrade() -> None:
    op.add_column("responses", sa.Column("topic", sa.String()))
    op.create_table(
        "users",
        sa.Column("name", sa.String(), nullable=False),
        sa.Column("created", sa.DateTime(timezone=True), nullable=False),
        sa.Column("role", sa.String(), nullable=False),
        sa.Column("password", sa.String(), nullable=False),
        sa.PrimaryKeyConstraint("name", name="pk_users"),
    )
    op.create_table(
        "sessions",
        sa.Column("token", sa.String(), nullable=False),
        sa.Column("user", sa.String(), nullable=False),
        sa.Column("expires", sa.DateTime(timezone=True), nullable=False),
        sa.PrimaryKeyConstraint("token", name="pk_sessions"),
        sa.ForeignKeyConstraint(["user"], ["users.name"], "fk_sessions_user", ondelete="CASCADE"),
    )
    op.create_table(
        "queues",
        sa.Column("name", sa.String(), nullable=False),
        sa.Column("created", sa.DateTime(timezone=True), nullable=False),
        sa.Column("rules", sa.JSON(), nullable=False),
        sa.PrimaryKeyConstraint("name", name="pk_queues"),
    )
    op.create_table(
        "tasks",
        sa.Column("id", sa.String(), nullable=False),
        sa.Column("queue", sa.String(), nullable=False),
        sa.Column("number", sa.Integer(), nullable=False),
        sa.Column("messages", sa.JSON(), nullable=False),
        sa.Column("topic", sa.String()),
        sa.Column("subject", sa.String()),
        sa.Column("raters", sa.Integer(), nullable=False),
        sa.Column("again", sa.Boolean(), nullable=False),
        sa.PrimaryKeyConstraint("id", name="pk_tasks"),
        sa.ForeignKeyConstraint(["queue"], ["queues.name"], "fk_tasks_queue", ondelete="CASCADE"),
    )
    op.create_table(
        "answers",
        sa.Column("task_id", sa.String(), nullable=False),
        sa.Column("number", sa.Integer(), nullable=False),
        sa.Column("response_id", sa.String(), nullable=False),
        sa.PrimaryKeyConstraint("task_id", "number", name="pk_answers"),
        sa.ForeignKeyConstraint(["task_id"], ["tasks.id"], "fk_answers_task_id", ondelete="CASCADE"),
        sa.ForeignKeyConstraint(["response_id"], ["responses.id"], "fk_answers_response_id", ondelete="CASCADE"),
    )
    op.create_table(
        "turns",
        sa.Column("id", sa.String(), nullable=False),
        sa.Column("task_id", sa.String(), nullable=False),
        sa.Column("rater", sa.String(), nullable=False),
        sa.Column("again", sa.Boolean(), nullable=False),
        sa.Column("places", sa.JSON(), nullable=False),
        sa.Column("state", sa.String(), nullable=False),
        sa.Column("touched", sa.DateTime(timezone=True), nullable=False),
        sa.Column("ended", sa.DateTime(timezone=True)),
        sa.Column("seconds", sa.Double()),
        sa.Column("reason", sa.String(), nullable=False),
        sa.Column("judgement_id", sa.String()),
        sa.PrimaryKeyConstraint("id", name="pk_turns"),
        sa.UniqueConstraint("task_id", "rater", "again", name="uq_turns_task_id"),
        sa.ForeignKeyConstraint(["task_id"], ["tasks.id"], "fk_turns_task_id", ondelete="CASCADE"),
        sa.ForeignKeyConstraint(["judgement_id"], ["judgements.id"], "fk_turns_judgement_id", ondelete="CASCADE"),
    )
    for table, column in (
        ("sessions", "user"), ("tasks", "queue"), ("tasks", "subject"), ("answers", "response_id"),
        ("turns", "rater"), ("turns", "judgement_id"),
    ):  # fmt: skip
        op.create_index(f"ix_{table}_{column}", table, [column])
