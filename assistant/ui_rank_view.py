"""The browser's part of the Rank tab, continued: what the board shows.

`build` makes a turn's elements once; `refresh` changes what changes, so that the focus stays where it is.
"""

VIEW = r"""
const parts = {
  picker: make("select", { id: "rank-queue", onchange: (event) => act("open", { queue: event.target.value }) }),
  name: make("input", { id: "rank-name", autocomplete: "name", maxlength: 100, placeholder: "optional",
    onchange: (event) => { keep("brogue-rank-name", event.target.value.trim()); if (state.queue) act("open"); } }),
  progress: make("p", { class: "rank-progress" }),
  notice: make("p", { class: "rank-notice", role: "status" }),
  live: make("p", { class: "spoken", role: "status", "aria-live": "polite" }),
  body: make("div", { class: "rank-body" }),
};
const cards = () => [...board.querySelectorAll(".rank-card")];
const say = (text) => { parts.live.textContent = text; };
const tell = (text = "", isProblem = false) => {
  parts.notice.textContent = text;
  parts.notice.className = `rank-notice${isProblem ? " problem" : ""}`;
  if (isProblem) parts.notice.scrollIntoView({ block: "nearest" });
  board.querySelector(".rank-hint")?.classList.remove("problem");
};
const insist = (text) => {  // what stands in the way of submitting is said where the button is
  tell();
  board.querySelector(".rank-hint").classList.add("problem");
  say(text);
};
const label = (text) => make("span", { class: "rank-label", text });
const button = (text, onclick, props = {}, key = "") => make("button", { type: "button", onclick, ...props }, text,
  key && make("kbd", { text: key, "aria-hidden": "true" }));
const undoButton = () => button("Undo", undo, { class: "undo", "aria-keyshortcuts": "u" }, "U");

const build = () => {
  parts.body.replaceChildren(...(state.turn ? turnView() : [emptyView()]));
  refresh();
};
const emptyView = () => {
  const other = state.queues.length > 1 ? "Thank you. Choose another queue above, or look again later."
    : "Thank you. Look again later.";
  const first = state.admin ? "Make a queue below: say who answers, and what they are asked."
    : "Somebody with the role admin makes a queue of questions; then reload this page.";
  const [title, text] = state.queue ? ["Nothing left to rank here", other]
    : state.error ? ["The queues cannot be shown", "Reload this page in a minute."]
      : ["There is nothing to rank yet", first];
  return make("section", { class: "rank-empty" }, make("h2", { text: title }), make("p", { text }),
    state.queue && make("div", { class: "rank-buttons" }, button("Look again", () => act("open")), undoButton()));
};
const turnView = () => [
  promptView(),
  make("ol", { class: "rank-cards", "data-count": count(), "aria-label": "Answers" },
    ...positions().map((i) => make("li", {}, cardView(i)))),
  barView(), moreView(), keysView(), skipView(),
];
const promptView = () => {
  const said = state.turn.prompt, earlier = said.slice(0, -1);
  const line = (one) => make("div", { class: "rank-line" },
    make("span", { class: "rank-role", text: one.role }), make("p", { text: one.text }));
  return make("section", { class: "rank-prompt", "aria-label": "What was asked" },
    earlier.length && make("details", {},
      make("summary", { text: `Earlier in this conversation (${earlier.length})` }), ...earlier.map(line)),
    make("p", { class: "rank-asked", tabindex: said.at(-1).text.length > 500 ? 0 : null, text: said.at(-1).text }));
};
const cardView = (i) => make("div",
  { class: "rank-card", role: "group", tabindex: 0, "data-position": i, onfocusin: () => { current = i; refresh(); } },
  make("div", { class: "rank-head", title: twoOnly() ? null : "Drag to a place" },
    make("span", { class: "rank-letter", text: letter(i), "aria-hidden": "true" }),
    make("span", { class: "rank-where" }),
    button("Correct", () => correct(i), { class: "correct", "aria-label": `Correct answer ${letter(i)}` })),
  make("div", { class: "rank-text prose" }),
  !twoOnly() && make("fieldset", { class: "rank-places" },
    make("legend", { class: "spoken", text: `Place of answer ${letter(i)}` }),
    ...positions().map((n) => placeView(i, n + 1))));
const placeView = (i, where) => make("label", {},
  make("input", { type: "radio", name: `rank-place-${i}`, value: where, "aria-label": `Place ${where} of ${count()}`,
    onchange: () => put(i, where) }),
  make("span", { text: where, "aria-hidden": "true" }));
const barView = () => make("section", { class: "rank-bar", "aria-label": "Your order" },
  twoOnly() ? verdictsView() : make("div", { class: "rank-order" },
    make("div", { class: "rank-slot tray", "data-place": "" }),
    make("ol", { class: "rank-slots" },
      ...positions().map((n) => make("li", { class: "rank-slot", "data-place": n + 1 })))),
  make("div", { class: "rank-buttons" },
    !twoOnly() && button("All bad", allBad, { class: "bad", "aria-keyshortcuts": "x" }, "X"),
    button("Skip", () => askSkip(), { "aria-keyshortcuts": "s" }, "S"), undoButton(),
    button("Submit", submit, { class: "yes submit", "aria-keyshortcuts": "Enter" }, "↵")),
  make("p", { class: "rank-hint" }));
const VERDICT_KEYS = [["first", "A is better", "1"], ["tie", "Tie", "T"], ["second", "B is better", "2"],
  ["both-bad", "Both bad", "X"]];
const verdictsView = () => make("div",
  { class: "rank-verdicts", role: "group", "aria-label": "Which answer is better?" },
  ...VERDICT_KEYS.map(([which, text, short]) => button(text, () => decide(which),
    { "data-verdict": which, "aria-keyshortcuts": short.toLowerCase() }, short)));
const moreView = () => {
  const type = (event) => { draft.comment = event.target.value; saveDraft(); };
  const comment = make("textarea", { rows: 1, maxlength: 10000, oninput: type });
  comment.value = draft.comment;
  return make("section", { class: "rank-more", "aria-label": "Say more" },
    make("div", { class: "rank-reasons", role: "group", "aria-label": "What decided it?" }, label("What decided it?"),
      ...state.reasons.map((one) => button(one.label, () => toggle(one.id), { class: "chip", "data-reason": one.id }))),
    make("label", { class: "rank-comment" }, label("Comment (optional)"), comment));
};
const toggle = (reason) => {
  const others = draft.reasons.filter((one) => one !== reason);
  draft.reasons = others.length < draft.reasons.length ? others : [...others, reason];
  saveDraft();
  refresh();
};

const refresh = () => {
  parts.picker.replaceChildren(...state.queues.map((one) =>
    make("option", { value: one.name, text: one.label, selected: one.name === state.queue })));
  parts.picker.parentElement.hidden = state.queues.length < 2;
  parts.name.parentElement.hidden = !state.ask_name;
  parts.progress.textContent = state.queue ? state.progress : "";
  parts.progress.style.setProperty("--share", state.share);
  board.querySelectorAll(".undo").forEach((one) => { one.disabled = !state.queue || !done().length || busy; });
  if (state.turn && board.querySelector(".rank-bar")) refreshTurn();
};
const refreshTurn = () => {
  const press = (one, pressed) => one?.setAttribute("aria-pressed", pressed);
  cards().forEach(refreshCard);
  board.querySelectorAll(".rank-slot").forEach(refreshSlot);
  board.querySelectorAll("[data-verdict]").forEach((one) => press(one, one.dataset.verdict === verdict()));
  board.querySelectorAll("[data-reason]").forEach((one) => press(one, draft.reasons.includes(one.dataset.reason)));
  press(board.querySelector(".bad"), draft.bad);
  const problem = obstacle();
  board.querySelector(".submit").setAttribute("aria-disabled", Boolean(problem || busy));
  board.querySelector(".rank-hint").textContent = busy ? "One moment …" : problem;
};
const standing = (i) => {
  const said = { "both-bad": ["bad", "bad"], tie: ["tie", "tie"], first: ["better", ""], second: ["", "better"] };
  if (twoOnly()) return said[verdict()]?.[i] ?? "";
  if (place(i) === null) return "no place yet";
  return `place ${place(i)}${together(i).length ? `, tied with ${named(together(i))}` : ""}`;
};
const refreshCard = (card, i) => {
  const one = state.turn.answers[i], status = one.problem ? "failed" : one.done ? standing(i) : "being written";
  card.setAttribute("aria-label", `Answer ${letter(i)}${status ? `, ${status}` : ""}`);
  card.classList.toggle("current", i === current);
  card.classList.toggle("placed", Boolean(one.done && (twoOnly() ? status && !draft.bad : place(i) !== null)));
  card.querySelector(".rank-where").textContent = status;
  card.querySelector(".correct").hidden = !(one.done && one.response);
  card.querySelector(".correct").classList.toggle("saved", corrected.includes(one.response));
  card.querySelector(".correct").firstChild.data = corrected.includes(one.response) ? "Corrected" : "Correct";
  for (const radio of card.querySelectorAll("input[type=radio]")) radio.checked = Number(radio.value) === place(i);
  const text = card.querySelector(".rank-text"), version = JSON.stringify([one.html, one.problem, one.done]);
  if (text.shown === version) return;
  text.shown = version;
  text.innerHTML = one.html;  // made of Markdown by Python, without HTML of its own
  const again = () => make("div", { class: "notice" }, make("p", { text: one.problem }), button("Ask again", write));
  if (one.problem) text.append(again());
  else if (!one.html && !one.done) text.append(make("div", { class: "waiting" }, make("i"), make("i"), make("i")));
};
const refreshSlot = (slot) => {
  const where = slot.dataset.place ? Number(slot.dataset.place) : null;
  const names = { null: "No place yet", 1: "1 · best", [count()]: `${count()} · last` };
  slot.replaceChildren(label(names[where] ?? `${where}`), ...positions().filter((i) => place(i) === where)
    .map((i) => make("span", { class: "rank-letter", "data-position": i, text: letter(i) })));
};
"""
