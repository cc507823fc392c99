"""The page of an advice, arm by arm: what it is made of, its figures, by label, what it confuses and gets wrong."""

from collections.abc import Sequence
from html import escape

from adapters.exam_types import Interval, Measured
from assistant import advice_words as shown
from assistant import exam_words as words
from assistant.advice_types import Advice, Confusion, Figures, Result, Task, Wrong
from assistant.report_pieces import asked, value, wide

_MATRIX = 10  # labels that fit a telephone's width
_PAIRS = 15
_SHORT = 200  # characters of a question that fits a table
_BY_LABEL = ("precision_micro", "recall_micro", "f1_micro")
STYLE = """
.arm { background: var(--card); border: 1px solid var(--line); border-radius: .5rem; padding: .7rem 1rem;
  margin: 0 0 .75rem; }
.arm > summary { color: var(--ink); font-size: 1rem; } .arm h3 { margin: 1.1rem 0 .4rem; }
.arm .wide, .arm .moved { background: var(--paper); } .arm .moved .answers div { background: var(--card); }
.arm .prompt { white-space: pre-wrap; margin: .4rem 0 0; padding-left: .75rem; border-left: 3px solid var(--line); }
.grid { overflow-x: auto; } .grid:focus-visible { outline: 2px solid var(--bar); outline-offset: 2px; }
.matrix { width: auto; margin: 0; } .matrix :is(th, td) { padding: .25rem .3rem; border: 1px solid var(--line);
  font: .85rem/1.3 system-ui, sans-serif; vertical-align: middle; }
.matrix td { width: 2.1rem; min-width: 1.7rem; text-align: center;
  background: color-mix(in srgb, var(--alarm) calc(var(--much, 0) * 45%), transparent); }
.matrix td.right { color: var(--bar); font-weight: 600; } .matrix thead th { text-align: center; white-space: nowrap; }
.matrix tbody th { min-width: 11rem; overflow-wrap: anywhere; font-weight: 400; }
.matrix thead td { min-width: 0; width: auto; }
.legend { margin-bottom: .4rem; } .soft + .plots, .wide + .soft { margin-top: .7rem; } .legend b { color: var(--bar); }
.verdict > div p { margin-top: .35rem; } .verdict > div.soft { margin-top: .5rem; }
@media (max-width: 640px) { .matrix tbody th { min-width: 5.5rem; } .matrix :is(th, td) { padding: .2rem .15rem; }
  .matrix td { font-size: .75rem; width: 1.5rem; min-width: 1.4rem; } }
"""


def arms(advice: Advice) -> str:
    """A block for each measured arm, the recommended one unfolded."""
    done = "".join(
        _arm(advice, result, result.test, result.arm.name == advice.recommendation.arm)
        for result in shown.ordered(advice) if result.test
    )  # fmt: skip
    return f"<h2>Arm by arm: what each gets wrong</h2>{done}" if done else ""


def _arm(advice: Advice, result: Result, test: Figures, is_open: bool) -> str:
    figure = words.number(test.main.value, shown.unit(advice))
    return (
        f'<details class="arm"{" open" if is_open else ""}><summary>{escape(result.arm.name)}: '
        f"{escape(shown.metric(advice))} {escape(figure)}</summary><p>{escape(result.arm.title)}</p>{_made(result)}"
        f"{_confusions(advice.task, test)}{_wrong(advice.task, test.wrong)}{_by_label(advice.task, test)}"
        f"{_figures(test.measures)}</details>"
    )


def _made(result: Result) -> str:
    """What the arm is made of: notes, sizes, the instruction."""
    ready = result.ready
    if ready is None:
        return ""
    facts = [f"learnt from {ready.rows:,} rows" if ready.rows else "", *ready.notes,
             f"{ready.trained:,} trained numbers" if ready.trained else "",
             f"{shown.size(ready.bytes)} on disk" if ready.bytes else "",
             f"on the base model {ready.base_model}" if ready.base_model else ""]  # fmt: skip
    told = "; ".join(fact for fact in facts if fact)
    prompt = ready.definition.system_prompt or ""
    said = f'<details><summary>Its instruction</summary><p class="prompt">{escape(prompt)}</p></details>'
    return (f'<p class="soft">{escape(told)}</p>' if told else "") + (said if prompt else "")


def _confusions(task: Task, test: Figures) -> str:
    if not test.confusions:
        return ""
    pairs = [
        [f"<span>{escape(one.wanted)}</span>", escape(one.given) or "(no label)", f"{one.times:,}"]
        for one in test.confusions[:_PAIRS]
    ]
    listed = wide("The most frequent confusions", ["Right", "Given instead", "Times"], pairs)
    return (
        f"<h3>What it confuses</h3>{_matrix(task, test)}"
        f"<details><summary>The {len(pairs)} most frequent confusions</summary>{listed}</details>"
    )


def _matrix(task: Task, test: Figures) -> str:
    """The labels that are confused most: rows what was right, columns what was given."""
    known = list(dict.fromkeys(_plain(label, task) for label in task.labels))
    labels, times = (
        _most_confused(known, test.confusions),
        {(one.wanted, one.given): one.times for one in test.confusions},
    )
    most, recall = max(times.values()), _slices(test, "recall_micro")
    top = "".join(f'<th scope="col" title="{escape(label)}">{place}</th>' for place, label in enumerate(labels, 1))
    rows = ""
    for place, wanted in enumerate(labels, 1):
        cells = "".join(
            _right(recall.get(wanted)) if given == wanted else _cell(times.get((wanted, given), 0), most)
            for given in labels
        )
        rows += f'<tr><th scope="row">{place} {escape(wanted)}</th>{cells}</tr>'
    about = "A row is the right label, a column what was given instead"
    about += f": the {len(labels)} that are confused most, of {len(known):,}." if len(labels) < len(known) else "."
    about += " On the diagonal: the share of the label's that was found, in %." if recall.keys() & set(labels) else ""
    return (
        f'<p class="soft">{about}</p><div class="grid" tabindex="0" role="region" aria-label="Confusion matrix">'
        f'<table class="matrix"><thead><tr><td></td>{top}</tr></thead><tbody>{rows}</tbody></table></div>'
    )


def _plain(label: str, task: Task) -> str:
    """A label as confusions name it: of tags the type."""
    return label[2:] if task.kind == "tags" and label[:2] in ("B-", "I-") else label


def _most_confused(known: Sequence[str], confusions: Sequence[Confusion]) -> list[str]:
    """All labels and what else was given if these are few, else those of the most frequent confusions."""
    order = {label: place for place, label in enumerate(known)}
    there = dict.fromkeys(label for one in confusions for label in (one.wanted, one.given))
    kept = list(dict.fromkeys([*known, *there])) if len(known) <= _MATRIX else []
    if not kept:
        for one in confusions:
            new = [label for label in dict.fromkeys((one.wanted, one.given)) if label not in kept]
            if len(kept) + len(new) > _MATRIX:
                break
            kept += new
    return sorted(kept, key=lambda label: order.get(label, len(order)))


def _right(found: Interval | None) -> str:
    return f'<td class="right">{f"{100 * found.value:.0f}" if found else "·"}</td>'


def _cell(times: int, most: int) -> str:
    return f'<td style="--much: {times / most:.2f}">{times:,}</td>' if times else "<td></td>"


def _wrong(task: Task, wrong: Sequence[Wrong]) -> str:
    if not wrong:
        return ""
    heading = f"<h3>{len(wrong)} that it got wrong</h3>" if len(wrong) > 1 else "<h3>One that it got wrong</h3>"
    if task.kind == "labels" and all(len(one.question) <= _SHORT for one in wrong):
        rows = [
            [f"<span>{escape(one.question)}</span>", escape(one.wanted), escape(one.given) or "(nothing)"]
            for one in wrong
        ]
        return heading + wide("What it got wrong", ["Question", "Right", "Given"], rows)
    right, given = ("People's choice", "Found likelier") if task.kind == "pairs" else ("Right", "Given")
    return heading + "".join(
        asked("", one.question, [(right, one.wanted), (f"{given}, scored {one.score:.3g}", one.given)]) for one in wrong
    )


def _by_label(task: Task, test: Figures) -> str:
    """Precision, recall and F1 of each label, or the slices of the metric; the worst first, folded."""
    names = [name for name in _BY_LABEL if _slices(test, name)] or [task.metric]
    found = [_slices(test, name) for name in names]
    labels = sorted(found[-1], key=lambda label: found[-1][label].value)
    if not labels:
        return ""
    unit = getattr(shown.measure(test, names[-1]), "unit", "share")
    rows = [[f"<span>{escape(label)}</span>", *(value(one.get(label), unit) for one in found)] for label in labels]
    heads = ["Label", *(name.removesuffix("_micro").capitalize() for name in names)]
    table = wide("By label", heads, rows)
    return f"<details><summary>By label, the worst first ({len(labels):,})</summary>{table}</details>"


def _slices(test: Figures, name: str) -> dict[str, Interval]:
    found = shown.measure(test, name)
    return {label: arms["version"] for label, arms in found.slices.items() if "version" in arms} if found else {}


def _figures(measures: Sequence[Measured]) -> str:
    """All figures of the arm, folded."""
    rows = [
        [f"<span>{escape(words.title(one.name))}</span><small>{escape(one.note)}</small>",
         value(one.arms.get("version"), one.unit), f"{one.n:,}"] for one in measures if "version" in one.arms
    ]  # fmt: skip
    table = wide("All figures", ["Figure", "Value", "Items"], rows)
    return f"<details><summary>All its figures ({len(rows)})</summary>{table}</details>" if rows else ""
