"""`brogue up`, `down`, `status` and `doctor`."""

import subprocess
import sys
import time
from collections.abc import Callable
from typing import Annotated, Any

import typer

from assistant.cli_data_options import Json
from assistant.console import print_json, print_table, say, working
from assistant.services import Parts, Services, load_services, require_free, stop_others, stop_services
from data.errors import BrogueError, one_line
from data.home import Home
from data.settings import Settings, load_settings
from serve.process import stop_process_group

STOP_S = 30  # the supervisor has an engine and a page to stop
GREETING = "Hello, who are you?"


def up(
    foreground: Annotated[bool, typer.Option(help="Stay; Ctrl-C stops everything.")] = False,
    port: Annotated[int | None, typer.Option(help="The gateway's port (default: brogue.toml, else 8000).")] = None,
    page_port: Annotated[int | None, typer.Option(help="The page's port (default: brogue.toml, else 7860).")] = None,
    host: Annotated[
        str | None, typer.Option(help="Where the gateway listens; 0.0.0.0: for other machines (docs/security.md).")
    ] = None,
    page_host: Annotated[str | None, typer.Option(help="Where the page listens (default: this machine alone).")] = None,
    page: Annotated[bool, typer.Option(help="Serve the page, too.")] = True,
    worker: Annotated[bool, typer.Option(help="Work on fine-tuning jobs, too.")] = True,
) -> None:
    """Start the engine, the gateway and the page; the first time it makes an example with two voices."""
    from assistant.exposure import require_guarded

    home = Home.from_environment()
    home.create()
    given = {"gateway": {"port": port, "host": host}, "page": {"port": page_port, "host": page_host}}
    settings = _with_addresses(load_settings(home.settings_file), given)
    running = load_services(home)
    if running is not None and running.engine_state != "dead" and running.supervisor.is_alive():
        say("brogue runs already; brogue down stops it")
        _print_addresses(home, running)
        return
    parts = Parts(page=page, worker=worker)
    bring_shared(home, settings)
    require_guarded(home, settings, ("gateway", "page") if page else ("gateway",))
    stop_services(home)  # leftovers of a killed or failed start
    require_free("gateway", settings.gateway)
    if page:
        require_free("page", settings.page)
    _make_ready(home, settings)
    supervisor = _start_supervisor(home, settings, parts)
    try:
        services = _wait_ready(home, settings, supervisor, parts)
        _greet(home)
        _print_addresses(home, services)
        if foreground:
            say("Ctrl-C stops everything")
            supervisor.wait()
    except BaseException:
        stop_process_group(supervisor.pid, STOP_S)  # in its first seconds it is not written down yet
        stop_services(home)
        raise


def down() -> None:
    """Stop everything that `brogue up` started, and what a killed `brogue advise` left running."""
    home = Home.from_environment()
    stopped = [stop_services(home), stop_others(home)]
    typer.echo("stopped" if any(stopped) else "nothing was running")


def status(
    json: Json = False,
    watch: Annotated[bool, typer.Option(help="Stay, and draw rates and latencies anew every second.")] = False,
) -> None:
    """Tell what runs, where, what the engine is doing, and how the adapters do. Exit code 1 if it is not ready."""
    home = Home.from_environment()
    if watch:
        if json:
            raise typer.BadParameter("--watch draws on a terminal; leave out --json, or read the gateway's /metrics")
        from assistant.status_watch import Watcher

        Watcher(home).run()
        return
    services = load_services(home)
    if services is None:
        if json:
            print_json({"engine_state": "stopped"})
        else:
            say("nothing is running; start it: brogue up")
        raise typer.Exit(1)
    adapters, problem = _adapters(home, services)
    if json:
        print_json(services.model_dump(mode="json") | {"adapters": adapters, "adapters_problem": problem})
    else:
        detail = f" ({services.engine_detail})" if services.engine_detail else ""
        page = "running" if services.page and services.page.is_alive() else "stopped"
        typer.echo(f"engine   {services.engine_state}{detail}, base model {services.base_model}")
        typer.echo(f"gateway  {services.public_url}/v1")
        if services.page_url:
            typer.echo(f"page     {services.page_url} ({page})")
        _print_adapters(adapters, problem)
    if services.engine_state != "ready":
        raise typer.Exit(1)


def _adapters(home: Home, services: Services) -> tuple[list[dict[str, Any]], str | None]:
    """The adapters as the gateway has them, or why it cannot be asked."""
    from assistant.client import Admin, GatewayError
    from data.secrets import admin_key

    try:
        return Admin(services.gateway_url, admin_key(home)).adapters(), None
    except GatewayError as error:
        return [], str(error)


def _print_adapters(adapters: list[dict[str, Any]], problem: str | None) -> None:
    """A line for each version that is answering people, or why there is none."""
    if problem:
        typer.echo(f"adapters not known: {problem}")
    rows = [row for adapter in adapters for row in _live_versions(adapter)]
    if rows:
        typer.echo()
        columns = ("version", "alias", "share", "answers", "errors", "up", "down", "state")
        print_table(columns, rows, "")
    for one in (version for adapter in adapters for version in adapter["versions"]):
        if (own := one.get("own_engine")) and one["status"] in ("loaded", "starting"):
            doing = f" ({one['detail']})" if one["detail"] else ""
            typer.echo(f"{one['id']} has an engine of its own: {one['status']}{doing}, {_memory(own)}")


def _memory(own_engine: dict[str, Any]) -> str:
    from serve.hardware import gib

    return f"about {gib(own_engine['memory_bytes'])} of memory"


def _live_versions(adapter: dict[str, Any]) -> list[tuple[object, ...]]:
    """Table rows of the stable version and the canary; a share of the assistants' traffic, or what else it does."""
    plan = adapter["canary"] or {"share": 0, "shadow": False}
    trying = 0 if plan["shadow"] else plan["share"]
    shares = {"stable": f"{100 - trying}%", "canary": "in the background" if plan["shadow"] else f"{trying}%"}
    versions = {one["version"]: one for one in adapter["versions"]}
    rows: list[tuple[object, ...]] = []
    for alias, share in shares.items():
        if one := versions.get(adapter["aliases"].get(alias)):
            counts = (one["answers"], one["errors"], one["up"], one["down"])
            rows.append((one["id"], alias, share, *counts, one["detail"] or one["status"]))
    return rows


def doctor(json: Json = False) -> None:
    """Check this machine and installation. Exit code 1 if something stands in the way."""
    from assistant.doctor import examine

    findings = examine(Home.from_environment())
    if json:
        print_json([finding.model_dump() for finding in findings])
    else:
        for finding in findings:
            typer.echo(f"{'ok  ' if finding.ok else 'FAIL'}  {finding.what}: {finding.found}")
    if not all(finding.ok for finding in findings):
        raise typer.Exit(1)


def _with_addresses(settings: Settings, given: dict[str, dict[str, Any]]) -> Settings:
    values = settings.model_dump()
    for name, address in given.items():
        values[name] |= {what: value for what, value in address.items() if value is not None}
    return Settings.model_validate(values)


def _make_ready(home: Home, settings: Settings) -> None:
    """All that must be there before the engine starts: base model, example, trained voices."""
    from adapters.base_model import prepare
    from assistant.starter import add_help_pages, create_example, point_stable_at_base, train_missing
    from serve.hardware import plan_all
    from serve.model_check import check_servable

    with working("base model") as tell:
        base = prepare(settings.base_model, home, tell)
        if not settings.engine.urls:
            tell("asking vLLM whether it can serve it")
            check_servable(base.path, base.sha256, settings.engine.dtype, home)
            # memory, cores, GPUs: refuse early
            plan_all(settings.engine, base.weight_bytes, base.kv_bytes_per_token, base.context_length)
    # Where several gateways share what there is, somebody has put it there: brogue share push.
    if settings.shared.artefacts is None and create_example(home):
        say(f"made an example in {home.root}: the shop Nettlebrook with the assistants reed and fern")
    add_help_pages(home)
    train_missing(home, base, say)
    for version in point_stable_at_base(home, base):
        say(f"{version} is now the stable version, since it was trained on base model {base.name}")


def bring_shared(home: Home, settings: Settings) -> None:
    """Where homes share adapters and assistants, bring what is new here. Raises `BrogueError` if it cannot be had."""
    if settings.shared.artefacts is None:
        return
    from data.sharing import opened_shared

    with working("shared files") as tell, opened_shared(home, settings) as shared:
        tell(f"from {settings.shared.artefacts}")
        for problem in shared.pull().problems:
            say(f"left out: {problem}")


def _start_supervisor(home: Home, settings: Settings, parts: Parts) -> "subprocess.Popen[bytes]":
    home.logs.mkdir(parents=True, exist_ok=True)
    command = [sys.executable, "-m", "assistant.supervisor", settings.model_dump_json(), parts.model_dump_json()]
    with (home.logs / "services.log").open("wb") as log:
        # A session of its own: it outlives this command, and the terminal's Ctrl-C does not reach it behind our back.
        return subprocess.Popen(
            command, stdin=subprocess.DEVNULL, stdout=log, stderr=subprocess.STDOUT, start_new_session=True
        )


def _wait_ready(home: Home, settings: Settings, supervisor: "subprocess.Popen[bytes]", parts: Parts) -> Services:
    with working("engine") as tell:
        while True:
            services = load_services(home)
            if supervisor.poll() is not None:
                lines = (home.logs / "services.log").read_text(errors="replace").strip().splitlines() or ["no output"]
                raise BrogueError(lines[-1].removeprefix("brogue: "))
            if services is not None and services.engine_state == "dead":
                raise BrogueError(services.engine_detail)
            if (
                services is not None
                and services.engine_state == "ready"
                and (not parts.page or _page_answers(settings, services, tell))
            ):
                return services
            if services is not None and services.engine_state == "starting":
                tell(services.engine_detail)
            time.sleep(0.3)


def _page_answers(settings: Settings, services: Services, tell: Callable[[str], None]) -> bool:
    import httpx

    if services.page is not None and not services.page.is_alive():
        raise BrogueError("the page could not start; see page.log in the home folder's logs")
    tell("ready, waiting for the page")
    try:
        # Its certificate bears the name that others know it by; here it is only asked whether it answers.
        return httpx.get(settings.page.url, timeout=2, trust_env=False, verify=False).status_code < 500
    except httpx.HTTPError:
        return False


def _greet(home: Home) -> None:
    """Let every assistant answer once: it shows that all voices are loaded, and the first visitor need not wait."""
    from assistant.client import GatewayError
    from assistant.definitions import list_assistants
    from assistant.local_gateway import local_client

    client, question = local_client(home), [{"role": "user", "content": GREETING}]
    for assistant in list_assistants(home):
        try:
            with working(assistant.name) as tell:
                tell(GREETING)
                answer = "".join(client.stream_chat(assistant.name, question, max_tokens=60))
        except GatewayError as error:
            answer = f"cannot answer yet: {error}"
        say(f"{assistant.name}: {one_line(answer, 110)}")


def _print_addresses(home: Home, services: Services) -> None:
    if services.page_url:
        typer.echo(f"page     {services.page_url}")
    typer.echo(f"gateway  {services.public_url}/v1  (OpenAI API, {_which_key(home)})")


def _which_key(home: Home) -> str:
    from assistant.cli_store import opened_store
    from data.store_keys import Keys
    from data.store_users import Users

    with opened_store(home) as store:
        is_open = not (Users(store).any() or Keys(store).any())
    return "any key" if is_open else "with a key: brogue keys create NAME"
