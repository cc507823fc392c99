"""The browser's part of the Rank tab, continued: keys, dragging and the question why somebody skips.

Single letters work only while the focus is on the board, never in a text field. Dragging uses pointer events, which a
finger makes too; whoever cannot drag has a row of places on every answer.
"""

KEYS = r"""
const SKIPS = ["I cannot judge this", "The question makes no sense", "An answer is broken",
  "It should not be shown to raters"];
const skipView = () => {
  const title = "Why do you skip this?";
  const reason = (text, i) => make("label", {},
    make("input", { type: "radio", name: "rank-skip", value: text, checked: i === 0 }), text);
  const send = (event) => { event.preventDefault(); sendSkip(dialog); };
  const dialog = make("dialog", { class: "rank-skip", "aria-label": title }, make("form", { onsubmit: send },
    make("fieldset", {}, make("legend", { text: title }), ...SKIPS.map(reason)),
    make("label", { class: "rank-comment" }, label("Or in your words"),
      make("input", { type: "text", maxlength: 200 })),
    make("div", { class: "rank-buttons" }, button("Keep it", () => dialog.close()),
      make("button", { type: "submit", class: "yes", text: "Skip" }))));
  dialog.addEventListener("close", () => cards()[current]?.focus());
  return dialog;
};
const askSkip = () => {
  const dialog = board.querySelector(".rank-skip");
  dialog.showModal();
  dialog.querySelector("input").focus();
};
const sendSkip = (dialog) => {
  const reason = dialog.querySelector("input[type=text]").value.trim() || dialog.querySelector(":checked").value;
  dialog.close();
  act("skip", { reason });
};

const keysView = () => {
  const line = (text, ...names) => make("li", {}, ...names.map((one) => make("kbd", { text: one })), ` ${text}`);
  const two = [line("which is better", "1", "2"), line("tie", "T"), line("both bad", "X")];
  const more = [line("its place", `1–${count()}`), line("place up, down", "↑", "↓"), line("no place", "0"),
    line("all bad", "X")];
  return make("section", { class: "rank-keys", "aria-label": "Keys" }, make("ul", {},
    line("from answer to answer", "←", "→"), ...(twoOnly() ? two : more), line("correct it", "C"),
    line("submit", "Enter"), line("undo", "U"), line("skip", "S")));
};

const shift = (position, by) => {
  if (twoOnly()) return decide((position === 0) === (by < 0) ? "first" : "second");
  const from = place(position) ?? (by < 0 ? count() + 1 : 0);
  put(position, Math.min(count(), Math.max(1, from + by)));
};
const focusCard = (position) => cards()[(position + count()) % count()]?.focus();
const onNumber = (position, number) => {
  if (twoOnly()) return number === 1 ? decide("first") : number === 2 ? decide("second") : null;
  if (number === 0) return put(position, null);
  if (number <= count()) put(position, number);
};
const ACTIONS = {
  ArrowLeft: (i) => focusCard(i - 1), ArrowRight: (i) => focusCard(i + 1),
  ArrowUp: (i) => shift(i, -1), ArrowDown: (i) => shift(i, 1),
  Backspace: (i) => onNumber(i, 0), Enter: () => submit(), u: () => undo(), s: () => askSkip(), c: (i) => correct(i),
  x: () => (twoOnly() ? decide("both-bad") : allBad()), t: () => twoOnly() && decide("tie"),
};
const onKey = (event) => {
  if (!board.isConnected) return document.removeEventListener("keydown", onKey);
  const at = event.target, text = at.matches("textarea, select, input[type=text], #rank-name");
  if (!board.offsetParent || busy || (at !== document.body && !board.contains(at)) || at.closest("dialog")) return;
  if (event.key === "Enter" && event.ctrlKey && state.turn) return submit();
  if (text || event.ctrlKey || event.metaKey || event.altKey) return;
  const name = event.key.length === 1 ? event.key.toLowerCase() : event.key;
  if (!state.turn) return name === "u" && state.queue ? undo() : null;
  if (name === "Enter" && at.matches("button, summary, a")) return;
  if (name.startsWith("Arrow") && at.matches("input[type=radio]")) return;
  const position = Number(at.closest(".rank-card")?.dataset.position ?? current);
  if (/^[0-9]$/.test(name)) onNumber(position, Number(name));
  else if (Object.hasOwn(ACTIONS, name)) ACTIONS[name](position);
  else return;
  event.preventDefault();
};
document.addEventListener("keydown", onKey);

let drag = null;
const slotUnder = (event) => document.elementFromPoint(event.clientX, event.clientY)?.closest(".rank-slot");
board.addEventListener("pointerdown", (event) => {
  const grip = event.target.closest(".rank-head, .rank-slot .rank-letter");
  if (!grip || twoOnly() || busy || event.button || event.target.closest("button")) return;
  event.preventDefault();  // no text is marked on the way
  const position = Number((grip.closest("[data-position]")).dataset.position);
  cards()[position].focus({ preventScroll: true });
  const ghost = make("span", { class: "rank-letter rank-ghost", text: letter(position), "aria-hidden": "true" });
  drag = { position, ghost };
  document.body.append(ghost);
  board.classList.add("dragging");
  moveGhost(event);
});
const moveGhost = (event) => {
  if (!drag) return;
  drag.ghost.style.transform = `translate(${event.clientX}px, ${event.clientY}px) translate(-50%, -50%)`;
  const under = slotUnder(event);
  board.querySelectorAll(".rank-slot").forEach((slot) => slot.classList.toggle("over", slot === under));
};
const drop = (event) => {
  if (!drag) return;
  const { position, ghost } = drag, slot = event.type === "pointerup" ? slotUnder(event) : null;
  drag = null;
  ghost.remove();
  board.classList.remove("dragging");
  board.querySelectorAll(".over").forEach((one) => one.classList.remove("over"));
  if (slot) put(position, slot.dataset.place ? Number(slot.dataset.place) : null);
};
for (const [name, what] of [["pointermove", moveGhost], ["pointerup", drop], ["pointercancel", drop]])
  document.addEventListener(name, what);
"""
