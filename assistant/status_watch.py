"""`brogue status --watch`: what engine and gateway do, drawn anew every second until Ctrl-C."""

import time
from collections import deque
from collections.abc import Callable
from typing import TYPE_CHECKING

import httpx

from assistant.services import Services, load_services
from assistant.status_samples import Doing, Moment, by_version, doing, gauge, parsed
from data.errors import one_line
from data.home import Home
from data.secrets import admin_key

if TYPE_CHECKING:
    from rich.console import RenderableType
    from rich.table import Table

EVERY_S = 1.0
SPAN_S = 10.0  # figures are of so long
PATIENCE_S = 5.0
MOST_ROWS = 12  # versions that are shown; further ones are named as a number


class Watcher:
    """Looks again and again. `look` may be given for tests."""

    def __init__(self, home: Home, look: Callable[[str, str], str] | None = None) -> None:
        self._home = home
        self._look = look or _get
        self._moments: deque[Moment] = deque()
        self._problem = ""

    def run(self) -> None:
        """Draw until Ctrl-C; without a terminal, each look is printed below the last."""
        from rich.console import Console
        from rich.live import Live

        console = Console()
        try:
            if not console.is_terminal:
                while True:
                    console.print(self.drawn())
                    time.sleep(EVERY_S)
            with Live(self.drawn(), console=console, screen=True, auto_refresh=False) as live:
                while True:
                    live.update(self.drawn(), refresh=True)
                    time.sleep(EVERY_S)
        except KeyboardInterrupt:
            pass

    def drawn(self) -> "RenderableType":
        """What there is to see now."""
        from rich.console import Group
        from rich.text import Text

        services = load_services(self._home)
        if services is None:
            self._moments.clear()
            return Text("nothing is running; start it: brogue up")
        self._sample(services)
        parts: list[RenderableType] = [_services_line(services)]
        if not self._moments:
            return Group(*parts, Text(f"gateway  {self._problem}", style="red"))
        before, after = self._moments[0], self._moments[-1]
        span = after.at - before.at
        parts += [*_totals(doing(before, after), after), Text(), *_versions(before, after)]
        foot = self._problem or (f"figures of the last {span:.0f} s" if span >= 1 else "looking …")
        return Group(*parts, Text(), Text(f"{foot} · Ctrl-C ends", style="dim"))

    def _sample(self, services: Services) -> None:
        key = admin_key(self._home)
        try:
            mine = parsed(self._look(f"{services.gateway_url}/metrics", key))
            self._problem = ""
        except (httpx.HTTPError, ValueError) as error:
            self._problem = f"{services.gateway_url} does not answer ({one_line(error, 80) or type(error).__name__})"
            return
        try:
            engine = parsed(self._look(f"{services.gateway_url}/metrics/engine", key))
        except (httpx.HTTPError, ValueError):
            engine = {}  # it is away, which the first line says
        self._moments.append(Moment(time.monotonic(), mine, engine))
        while self._moments[-1].at - self._moments[0].at > SPAN_S:
            self._moments.popleft()


def _get(url: str, key: str) -> str:
    reply = httpx.get(url, headers={"Authorization": f"Bearer {key}"}, timeout=PATIENCE_S, trust_env=False)
    return reply.raise_for_status().text


def _services_line(services: Services) -> "RenderableType":
    from rich.table import Table
    from rich.text import Text

    colour = {"ready": "green", "starting": "yellow"}.get(services.engine_state, "red")
    engine = Text.assemble((services.engine_state, colour), f" · {services.base_model}")
    if services.engine_detail:
        engine.append(f" · {one_line(services.engine_detail, 60)}")
    grid = Table.grid(padding=(0, 2))
    grid.add_row("engine", engine)
    grid.add_row("gateway", f"{services.gateway_url}/v1")
    return grid


def _totals(now: Doing, after: Moment) -> "list[RenderableType]":
    from rich.table import Table

    running, waiting = (gauge(after.engine, f"vllm:num_requests_{what}") for what in ("running", "waiting"))
    cache = gauge(after.engine, "vllm:kv_cache_usage_perc")
    slots = f"{_whole(gauge(after.gateway, 'brogue_slots_in_use'))}/{_whole(gauge(after.gateway, 'brogue_slots'))}"
    grid = Table.grid(padding=(0, 2))
    grid.add_row("answers", f"{now.requests_s:.1f}/s", f"{now.tokens_s:.0f} tokens/s", _errors(now))
    first = f"first token {_ms(now.first_ms[0])} p50", f"{_ms(now.first_ms[1])} p95"
    grid.add_row("latency", *first, f"{_ms(now.token_ms)} a token")
    ours = f"{_ms(now.ours_ms[0])} p50", f"{_ms(now.ours_ms[1])} p95"
    grid.add_row("overhead", *ours, "")
    queued = f"{_whole(gauge(after.gateway, 'brogue_answers_queued'))} waiting for a turn"
    grid.add_row("queue", queued, f"{_whole(running)} in the engine", f"{_whole(waiting)} waiting there")
    waits = f"{_whole(gauge(after.gateway, 'brogue_slots_waiting'))} waiting for one"
    grid.add_row("slots", f"{slots} in use", waits, "" if cache is None else f"KV cache {cache:.0%} full")
    return [grid]


def _versions(before: Moment, after: Moment) -> "list[RenderableType]":
    from rich.text import Text

    found = by_version(before, after)
    if not found:
        return [Text("no answers yet", style="dim")]
    shown = list(found.items())[:MOST_ROWS]
    more = [Text(f"and {len(found) - MOST_ROWS} more", style="dim")] if len(found) > MOST_ROWS else []
    return [_version_table(shown), *more]


def _version_table(shown: list[tuple[tuple[str, str], Doing]]) -> "Table":
    from rich.table import Table

    table = Table(box=None, pad_edge=False, padding=(0, 2, 0, 0), header_style="bold")
    for name in ("assistant", "version"):
        table.add_column(name, overflow="ellipsis", no_wrap=True, min_width=9)
    for name in ("req/s", "err/s", "tok/s", "first", "p95", "a token"):  # narrow: 80 columns must do
        table.add_column(name, justify="right", no_wrap=True, min_width=7 if name in ("first", "p95") else len(name))
    for (assistant, version), one in shown:
        cells = [f"{one.requests_s:.1f}", f"{one.errors_s:.1f}", f"{one.tokens_s:.0f}"]
        cells += [_ms(one.first_ms[0]), _ms(one.first_ms[1]), _ms(one.token_ms)]
        table.add_row(assistant, version, *cells, style="dim" if one.is_idle else "")
    return table


def _errors(now: Doing) -> str:
    return f"[red]{now.errors_s:.1f} errors/s[/red]" if now.errors_s else "no errors"


def _ms(value: float | None) -> str:
    if value is None:
        return "–"
    return f"{value / 1000:.1f} s" if value >= 1000 else f"{value:.0f} ms" if value >= 10 else f"{value:.1f} ms"


def _whole(value: float | None) -> str:
    return "–" if value is None else f"{value:.0f}"
