"""The first tables: responses, judgements, and which response was judged at which position."""

import sqlalchemy as sa
from alembic import op

revision = "0001"
down_revision = None


def upgrade() -> None:
    op.create_table(
        "responses",
        sa.Column("id", sa.String(), nullable=False),
        sa.Column("created", sa.DateTime(timezone=True), nullable=False),
        sa.Column("assistant", sa.String()),
        sa.Column("version", sa.String(), nullable=False),
        sa.Column("subject", sa.String()),
        sa.Column("conversation", sa.String()),
        sa.Column("logging", sa.String(), nullable=False),
        sa.Column("messages", sa.JSON(), nullable=False),
        sa.Column("text", sa.String(), nullable=False),
        sa.Column("passages", sa.JSON(), nullable=False),
        sa.Column("prompt_tokens", sa.Integer(), nullable=False),
        sa.Column("completion_tokens", sa.Integer(), nullable=False),
        sa.Column("seconds", sa.Double(), nullable=False),
        sa.PrimaryKeyConstraint("id", name="pk_responses"),
    )
    op.create_table(
        "judgements",
        sa.Column("id", sa.String(), nullable=False),
        sa.Column("created", sa.DateTime(timezone=True), nullable=False),
        sa.Column("kind", sa.String(), nullable=False),
        sa.Column("rater", sa.String(), nullable=False),
        sa.Column("seconds", sa.Double()),
        sa.Column("said", sa.JSON(), nullable=False),
        sa.Column("taken_back", sa.DateTime(timezone=True)),
        sa.PrimaryKeyConstraint("id", name="pk_judgements"),
    )
    op.create_table(
        "judged",
        sa.Column("judgement_id", sa.String(), nullable=False),
        sa.Column("position", sa.Integer(), nullable=False),
        sa.Column("response_id", sa.String(), nullable=False),
        sa.PrimaryKeyConstraint("judgement_id", "position", name="pk_judged"),
        sa.ForeignKeyConstraint(["judgement_id"], ["judgements.id"], "fk_judged_judgement_id", ondelete="CASCADE"),
        sa.ForeignKeyConstraint(["response_id"], ["responses.id"], "fk_judged_response_id"),
    )
    for table, columns in {
        "responses": ("created", "assistant", "version", "subject", "conversation"),
        "judgements": ("created", "rater"),
        "judged": ("response_id",),
    }.items():
        for column in columns:
            op.create_index(f"ix_{table}_{column}", table, [column])
