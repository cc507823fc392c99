"""All commands, put together. Command modules import heavy libraries inside their functions only."""

import typer

from assistant import (
    cli_adapters,
    cli_advise,
    cli_apart,
    cli_assistants,
    cli_capacity,
    cli_classify,
    cli_data,
    cli_data_clean,
    cli_data_collect,
    cli_data_export,
    cli_data_grow,
    cli_data_people,
    cli_data_show,
    cli_exam,
    cli_feedback,
    cli_feedback_queues,
    cli_gates,
    cli_jobs,
    cli_keys,
    cli_knowledge,
    cli_plan,
    cli_retrain,
    cli_runs,
    cli_services,
    cli_share,
    cli_train,
    cli_users,
)

app = typer.Typer(
    name="brogue",
    help="A chat assistant that knows your domain and speaks in your brand's voice, on your own machines.",
    no_args_is_help=True,
    pretty_exceptions_enable=False,  # a bug keeps its plain traceback; a refusal is one line (see cli.py)
    add_completion=False,
)
app.command()(cli_services.up)
app.command()(cli_services.down)
app.command()(cli_services.status)
app.command()(cli_services.doctor)
app.command()(cli_apart.engine)
app.command()(cli_apart.page)
app.command()(cli_assistants.chat)
app.command()(cli_train.train)
app.command()(cli_plan.plan)
app.command()(cli_capacity.capacity)
app.command()(cli_retrain.retrain)
app.command()(cli_classify.classify)
app.command()(cli_exam.exam)
app.add_typer(cli_assistants.app, name="assistants")
app.add_typer(cli_data.app, name="data")
cli_data.app.command("dedupe")(cli_data_clean.dedupe)
cli_data.app.command("redact")(cli_data_clean.redact_)
cli_data.app.command("template")(cli_data_grow.template)
cli_data.app.command("expand")(cli_data_grow.expand)
cli_data.app.command("show")(cli_data_show.show)
cli_data.app.command("export")(cli_data_export.export_)
cli_data.app.command("collect")(cli_data_collect.collect)
cli_data.app.command("forget")(cli_data_people.forget)
cli_data.app.command("trace")(cli_data_people.trace)
app.add_typer(cli_feedback.app, name="feedback")
cli_feedback.app.command("queue")(cli_feedback_queues.queue)
cli_feedback.app.command("queues")(cli_feedback_queues.queues)
app.add_typer(cli_knowledge.app, name="knowledge")
app.add_typer(cli_adapters.app, name="adapters")
app.add_typer(cli_runs.app, name="runs")
app.add_typer(cli_jobs.app, name="jobs")
app.add_typer(cli_exam.app, name="exams")
app.add_typer(cli_advise.advise, name="advise")
app.add_typer(cli_advise.app, name="advice")
app.add_typer(cli_gates.app, name="gates")
app.add_typer(cli_users.app, name="users")
app.add_typer(cli_keys.app, name="keys")
app.add_typer(cli_share.app, name="share")
