"""`brogue assistants` and `brogue chat`."""

import sys
from typing import TYPE_CHECKING, Annotated

import typer
import yaml

from assistant.cli_data_options import Json
from assistant.console import print_json, print_table, say
from assistant.definitions import get_assistant, list_assistants
from data.home import Home

if TYPE_CHECKING:
    from assistant.client import Client

app = typer.Typer(help="Assistants: who your users talk to.", no_args_is_help=True)


@app.command("list")
def list_(json: Json = False) -> None:
    """List the assistants."""
    assistants = list_assistants(Home.from_environment())
    if json:
        print_json([a.model_dump(mode="json") for a in assistants])
        return
    rows = [(a.name, a.adapter or "-", a.description) for a in assistants]
    print_table(("name", "adapter", "description"), rows, "no assistants yet; brogue up makes two examples")


@app.command()
def show(name: Annotated[str, typer.Argument(help="The assistant's name.")], json: Json = False) -> None:
    """Show an assistant's definition."""
    assistant = get_assistant(Home.from_environment(), name)
    if json:
        print_json(assistant.model_dump(mode="json"))
        return
    typer.echo(yaml.safe_dump(assistant.model_dump(mode="json"), sort_keys=False, allow_unicode=True).rstrip())


def chat(
    assistant: Annotated[str, typer.Argument(help="An assistant, an adapter (name@alias) or the base model.")],
    question: Annotated[str | None, typer.Argument(help="Ask this and end; without it, a conversation begins.")] = None,
) -> None:
    """Chat with an assistant in the terminal; `brogue up` must be running."""
    from assistant.client import GatewayError
    from assistant.local_gateway import local_client

    client = local_client(Home.from_environment())
    messages: list[dict[str, str]] = []
    if question is not None:
        _answer(client, assistant, messages, question)
        return
    say("end with Ctrl-D")
    while True:
        try:
            text = input("you: " if sys.stdin.isatty() else "").strip()
        except EOFError:
            return
        if text:
            try:
                _answer(client, assistant, messages, text)
            except GatewayError as error:
                messages.pop()  # the question that got no answer
                say(f"brogue: {error}")


def _answer(client: "Client", assistant: str, messages: list[dict[str, str]], question: str) -> None:
    messages.append({"role": "user", "content": question})
    pieces = []
    for piece in client.stream_chat(assistant, messages):
        pieces.append(piece)
        typer.echo(piece, nl=False)
    typer.echo()
    messages.append({"role": "assistant", "content": "".join(pieces)})
