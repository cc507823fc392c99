"""The report of a check as one page of HTML: findings, worst first, and plots. It asks for nothing from outside."""

from html import escape
from pathlib import Path

from assistant.report_plots import plots
from data.checking_report import Finding, Report
from data.errors import BrogueError, one_line
from data.home import write_text
from data.records import SPLITS

STYLE = """
:root { color-scheme: light dark; --paper: #fbfaf8; --card: #fff; --ink: #22252a; --soft: #62676f; --line: #d5d3ce;
  --bar: #4a7c9b; --alarm: #b3372f; --warn: #8a5a00; }
@media (prefers-color-scheme: dark) { :root { --paper: #17191c; --card: #202327; --ink: #e6e4df; --soft: #a3a7ae;
  --line: #44484e; --bar: #7fb0cd; --alarm: #f0857c; --warn: #e0b25c; } }
* { box-sizing: border-box; }
body { margin: 0 auto; padding: 2rem 1.25rem 4rem; max-width: 74rem; background: var(--paper); color: var(--ink);
  font: 1rem/1.5 system-ui, sans-serif; overflow-wrap: anywhere; }
h1 { font-size: 1.6rem; margin: 0 0 .25rem; } h2 { font-size: 1.1rem; margin: 2.25rem 0 .75rem; }
h3 { font-size: .95rem; margin: 0 0 .5rem; font-weight: 600; }
p { margin: 0 0 .25rem; } .soft { color: var(--soft); }
dl { display: grid; grid-template-columns: repeat(auto-fit, minmax(9rem, 1fr)); gap: .75rem; margin: 1.25rem 0 0; }
dl div, .finding, figure { background: var(--card); border: 1px solid var(--line); border-radius: .5rem; }
dl div { padding: .6rem .9rem; } dt { color: var(--soft); font-size: .85rem; } dd { margin: 0; font-size: 1.1rem; }
.finding { padding: .8rem 1rem; margin: 0 0 .75rem; border-left: .3rem solid var(--line); }
.error { border-left-color: var(--alarm); } .warning { border-left-color: var(--warn); }
.mark { font-size: .85rem; font-weight: 600; color: var(--soft); } .error .mark { color: var(--alarm); }
.warning .mark { color: var(--warn); }
.next { margin-top: .35rem; } code, td { font: .875rem/1.45 ui-monospace, monospace; }
details { margin-top: .35rem; } summary { cursor: pointer; color: var(--soft); font-size: .9rem; }
table { border-collapse: collapse; width: 100%; margin-top: .35rem; }
td { padding: .2rem .75rem .2rem 0; vertical-align: top; border-top: 1px solid var(--line); }
td:first-child { width: 30%; min-width: 7.5rem; }
.plots { columns: 21rem; column-gap: 1rem; }
figure { margin: 0 0 1rem; padding: 1rem; break-inside: avoid; }
svg { display: block; width: 100%; height: auto; font-family: system-ui, sans-serif; }
"""


def write_report(path: Path, report: Report) -> None:
    """Write the page to `path`, whole or not at all."""
    write_page(path, page(report), "; choose another place with --html")


def write_page(path: Path, html: str, advice: str = "") -> None:
    """Write a page, whole or not at all. Raises `BrogueError`, which ends with `advice`."""
    try:
        write_text(path.absolute(), html)
    except OSError as error:
        raise BrogueError(f"cannot write {path}: {one_line(error)}{advice}") from error


def page(report: Report) -> str:
    """The whole page."""
    title = f"Check of {escape(Path(report.target).name)}"
    found = "".join(_finding(finding) for finding in report.findings) or "<p>Nothing was found that needs mending.</p>"
    figures = "".join(
        f'<figure><h3>{escape(heading)}</h3><div role="img" aria-label="{escape(heading)}">{svg}</div></figure>'
        for heading, svg in plots(report).items()
    )
    drawn = f'<h2>Figures</h2><div class="plots">{figures}</div>' if figures else ""
    body = (
        f'<h1>{title}</h1><p class="soft">{escape(report.target)}: {escape(report.kind)} records, '
        f"{escape(report.format)}</p>{_facts(report)}<h2>{_headline(report)}</h2>{found}{drawn}"
    )
    return frame(title, body)


def frame(title: str, body: str, style: str = "") -> str:
    """A whole page around `body`, both as HTML; what a browser is told by it, it fetches nothing."""
    return (
        '<!doctype html><html lang="en"><head><meta charset="utf-8">'
        '<meta name="viewport" content="width=device-width, initial-scale=1">'
        "<meta http-equiv=\"Content-Security-Policy\" content=\"default-src 'none'; style-src 'unsafe-inline'\">"
        f"<title>{title}</title><style>{STYLE}{style}</style></head><body>{body}</body></html>\n"
    )


def _facts(report: Report) -> str:
    facts = {"records": f"{report.records:,}"} | {split: f"{report.splits[split]:,}" for split in SPLITS}
    if report.lengths:
        facts["median length"] = f"{report.lengths.median:,} {report.unit}"
        facts["longest"] = f"{report.lengths.longest:,} {report.unit}"
    if report.classes:
        facts["classes"] = f"{len(report.classes) + report.other_classes:,}"
    return f"<dl>{''.join(f'<div><dt>{name}</dt><dd>{value}</dd></div>' for name, value in facts.items())}</dl>"


def _headline(report: Report) -> str:
    counts = {"error": len(report.of("error")), "warning": len(report.of("warning")), "note": len(report.of("note"))}
    words = [f"{count} {word}{'s' if count > 1 else ''}" for word, count in counts.items() if count]
    return ", ".join(words) or "No findings"


def _finding(finding: Finding) -> str:
    examples = "".join(
        f"<tr><td>{escape(example.record)}{f' = {escape(example.other)}' if example.other else ''}</td>"
        f"<td>{escape(example.text)}</td></tr>"
        for example in finding.examples
    )
    shown = f"<details><summary>Examples</summary><table>{examples}</table></details>" if examples else ""
    step = f'<p class="next">→ <code>{escape(finding.next_step)}</code></p>' if finding.next_step else ""
    return (
        f'<section class="finding {finding.severity}"><p class="mark">{finding.severity}: {escape(finding.check)}</p>'
        f"<p>{escape(finding.message)}</p>{step}{shown}</section>"
    )
