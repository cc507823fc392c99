"""The browser's part of the Rank tab: the rater's board with answers to put in order, by mouse, finger or keys.

Gradio's HTML component runs this once. The state comes from Python as `props.value` (a patch of what changed, see
`assistant.ui_rank`), the growing answers as the window's event `rank-answers`; what the rater does goes back as the
events `act`, `write` and `correct`. A rater's half-made order lives in the browser's storage under its turn, so
that closing the tab loses nothing. All text is set as text; only answers are HTML, which Python made of Markdown.
"""

from assistant.ui_rank_keys import KEYS
from assistant.ui_rank_view import VIEW

STATE = r"""
const board = element.querySelector(".rank-board");
const LETTERS = "ABCDEF", WAIT_MS = 30000, KEPT = 20;
const make = (tag, props = {}, ...children) => {
  const made = document.createElement(tag);
  for (const [name, value] of Object.entries(props))
    if (name === "text") made.textContent = value;
    else if (name.startsWith("on")) made.addEventListener(name.slice(2), value);
    else if (value === true) made.setAttribute(name, "");
    else if (value !== false && value !== null && value !== undefined) made.setAttribute(name, value);
  made.append(...children.filter(Boolean));
  return made;
};
const kept = (key, otherwise) => {
  try { return JSON.parse(localStorage.getItem(key)) ?? otherwise; } catch { return otherwise; }
};
const keep = (key, value) => {
  try { localStorage.setItem(key, JSON.stringify(value)); } catch { /* the browser keeps nothing: so be it */ }
};

const EMPTY = { places: {}, bad: false, reasons: [], comment: "", seconds: 0 };
let state = { queues: [], reasons: [], queue: null, turn: null, progress: "", share: 0 };
let draft = null, busy = 0, seq = Date.now(), current = 0, timer = 0, corrected = [];
const letter = (position) => LETTERS[position];
const count = () => state.turn?.answers.length ?? 0;
const ready = () => state.turn?.answers.every((one) => one.done);
const place = (position) => draft.places[position] ?? null;
const positions = () => state.turn.answers.map((_, i) => i);
const missing = () => positions().filter((i) => place(i) === null);
const twoOnly = () => state.turn?.kind === "comparison";
const together = (position) => positions().filter((i) => i !== position && place(i) === place(position));
const named = (some) => some.map(letter).join(some.length === 2 ? " and " : ", ");

// A turn's draft outlives the page, and its being sent: Undo brings it back as it was.
const draftKey = (turn) => `brogue-rank:${turn}`;
const undoKey = () => `brogue-rank-done:${state.ask_name ? name() : state.rater}:${state.queue}`;
const saveDraft = () => {
  keep(draftKey(state.turn.id), draft);
  const turns = [state.turn.id, ...kept("brogue-rank-drafts", []).filter((id) => id !== state.turn.id)];
  turns.slice(KEPT).forEach((id) => localStorage.removeItem(draftKey(id)));
  keep("brogue-rank-drafts", turns.slice(0, KEPT));
};
const name = () => (state.ask_name === false ? "" : kept("brogue-rank-name", ""));
const done = () => kept(undoKey(), []);
// Places as the gateway wants them: 0 is best, no gaps; whoever was given none is last.
const ranks = () => {
  const given = state.turn.answers.map((_, i) => place(i) ?? 99);
  const sorted = [...new Set(given)].sort((a, b) => a - b);
  return given.map((one) => sorted.indexOf(one));
};

const act = (what, more = {}) => {
  if (busy) return;
  busy = ++seq;
  board.setAttribute("aria-busy", "true");
  clearTimeout(timer);
  timer = setTimeout(() => idle("No answer came from the server. Your order is kept; please try again."), WAIT_MS);
  refresh();
  trigger("act", { act: what, seq: busy, queue: state.queue, turn: state.turn?.id ?? null, rater: name(), ...more });
};
const idle = (problem) => {
  busy = 0;
  clearTimeout(timer);
  board.removeAttribute("aria-busy");
  if (problem) tell(problem, true);
  refresh();
};
const apply = () => {
  const patch = props.value;
  if (!patch || !patch.seq || patch.seq === state.seq) return;
  const before = state.turn?.id;
  if (patch.did) remember(patch.did);
  state = { ...state, error: "", said: "", ...patch };
  if (patch.queue) keep("brogue-rank-queue", state.queue);
  if ("turn" in patch) {
    draft = state.turn && { ...EMPTY, ...kept(draftKey(state.turn.id), {}) };
    if (state.turn?.id !== before) current = 0;
    build();
    if (state.turn && state.turn.id !== before && takesFocus()) startTurn();
  }
  idle();
  tell(state.error || state.said || "", Boolean(state.error));
  if ("turn" in patch && state.turn && !ready()) write();
  if ("queues" in patch && !("turn" in patch)) openQueue();
};
// Undo takes back what this person did last in this queue; the gateway knows whether that still can be.
const remember = ({ what, turn }) => {
  const others = done().filter((id) => id !== turn);
  keep(undoKey(), what === "undo" ? others : [turn, ...others].slice(0, KEPT));
};
const write = () => trigger("write", { turn: state.turn.id, count: count(), rater: name() });
const openQueue = () => {
  const last = kept("brogue-rank-queue", null), names = state.queues.map((one) => one.name);
  if (names.length) act("open", { queue: names.includes(last) ? last : names[0] });
  else build();
};
const startTurn = () => {
  if (board.getBoundingClientRect().top < 0) board.scrollIntoView();
  cards()[0]?.focus({ preventScroll: true });
};
const takesFocus = () => document.activeElement === document.body || board.contains(document.activeElement)
  || document.activeElement.matches("[role=tab]");

const put = (position, where) => {
  if (!state.turn || busy) return;
  tell();
  current = position;
  if (where === null) delete draft.places[position];
  else draft.places[position] = where;
  draft.bad = twoOnly() ? false : draft.bad;
  saveDraft();
  refresh();
  const ties = where === null ? [] : together(position);
  say(`Answer ${letter(position)}: ${where === null ? "no place" : `place ${where}`}` +
    (ties.length ? `, tied with ${named(ties)}` : "") + ".");
};
const allBad = () => {
  tell();
  draft.bad = !draft.bad;
  if (twoOnly() && draft.bad) draft.places = {};
  saveDraft();
  refresh();
  say(draft.bad ? (twoOnly() ? "Both bad." : "All bad.") : "No longer marked as bad.");
};
const VERDICTS = { first: { 0: 1, 1: 2 }, tie: { 0: 1, 1: 1 }, second: { 0: 2, 1: 1 } };
const verdict = () => {
  if (draft.bad) return "both-bad";
  if (missing().length) return null;
  return place(0) === place(1) ? "tie" : place(0) < place(1) ? "first" : "second";
};
const decide = (which) => {
  if (busy) return;
  if (which === "both-bad") { if (!draft.bad) allBad(); return; }
  tell();
  draft.places = { ...VERDICTS[which] };
  draft.bad = false;
  saveDraft();
  refresh();
  say(which === "tie" ? "A tie." : `Answer ${letter(which === "first" ? 0 : 1)} is better.`);
};
const obstacle = () => {
  if (state.turn.answers.some((one) => one.problem)) return "An answer is missing: ask for it again, or skip.";
  if (!ready()) return "The answers are still being written.";
  const open = missing();
  if (draft.bad || !open.length) return "";
  return twoOnly() ? "Say which one is better." : `Still to place: ${named(open)}.`;
};
const submit = () => {
  if (busy) return;
  const problem = obstacle();
  if (problem) return insist(problem);
  saveDraft();
  const said = twoOnly() ? { verdict: verdict() } : { ranks: ranks(), all_bad: draft.bad };
  act("judge", { ...said, reasons: draft.reasons, comment: draft.comment, seconds: draft.seconds });
};
const undo = () => {
  const [last] = done();
  if (last) act("undo", { turn: last });
  else tell("There is nothing to undo in this queue.", true);
};
const correct = (position) => {
  const one = state.turn.answers[position];
  if (one?.response && one.done) trigger("correct", { response: one.response, text: one.text });
};
const tellCorrected = (now) => {
  tell(now.length < corrected.length ? "Your correction is taken back." : "Your correction is kept.");
  corrected = now;
  refresh();
  // The editor closes a moment later; what is typed by then is meant for the board.
  if (document.activeElement.closest(".corrector")) cards()[current]?.focus();
};
// Time counts while the answers can be read: the page is in sight and something is there.
const tick = setInterval(() => {
  if (!board.isConnected) return clearInterval(tick);
  if (!state.turn || document.hidden || !board.offsetParent || !state.turn.answers.some((one) => one.html)) return;
  draft.seconds += 1;
  saveDraft();
}, 1000);
"""

START = r"""
board.append(
  make("div", { class: "rank-top" },
    make("label", {}, label("Queue"), parts.picker), make("label", {}, label("Your name"), parts.name), parts.notice,
    parts.progress),
  parts.live, parts.body);
parts.name.value = name();
parts.picker.parentElement.hidden = parts.name.parentElement.hidden = true;
window.addEventListener("rank-answers", ({ detail }) => {
  if (detail?.corrected) return tellCorrected(detail.corrected);
  if (!state.turn || detail?.turn !== state.turn.id) return;
  const were = ready();
  state.turn.answers = detail.answers;
  refresh();
  if (!were && ready()) say("All answers are there.");
});
watch("value", apply);
apply();
"""

SCRIPT = STATE + VIEW + KEYS + START

# The growing answers come by a component of their own: two events that set one value at once could hide each other.
RELAY = r"""
watch("value", () => window.dispatchEvent(new CustomEvent("rank-answers", { detail: props.value })));
"""
