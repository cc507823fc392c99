"""The browser's part of sources: it marks the sentences of an answer above its panel of sources (`.sources`).

Its text stays as the model wrote it, for copying and for the conversation. What is not supported is underlined, with a
word for screen readers; citations become buttons that open their card. A sentence is looked for by its letters and
digits alone, without citations, so that Markdown's marks do not matter. Whatever the chat draws anew is marked anew.
Only text within paragraphs, lists and tables is touched: what is around belongs to the chat.
"""

SCRIPT = r"""
(() => {
  const CITED = /[\[【［]\s*(\d{1,3})(?:\s*[,;–-]\s*\d{1,3})*\s*[\]】］]/g;
  const texts = (root, without) => {
    const walker = document.createTreeWalker(root, NodeFilter.SHOW_TEXT), nodes = [];
    while (walker.nextNode()) {
      const parent = walker.currentNode.parentElement;
      if (parent.closest("p, li, td, th, pre, h1, h2, h3, h4, h5, h6") && !parent.closest(without))
        nodes.push(walker.currentNode);
    }
    return nodes;
  };
  const make = (name, className, text) =>
    Object.assign(document.createElement(name), { className, textContent: text });
  const letters = (text) => [...text.matchAll(/[\p{L}\p{N}]/gu)];
  const spread = (nodes) => nodes.flatMap((node) => {  // every letter with its place
    const cited = [...node.data.matchAll(CITED)].map((match) => [match.index, match.index + match[0].length]);
    return letters(node.data).filter(({ index }) => !cited.some(([a, b]) => a <= index && index < b)).map((match) =>
      ({ letter: match[0], node, start: match.index, end: match.index + match[0].length }));
  });
  const button = (panel, number, text, kind, title) => {
    const made = make("button", `cite ${kind}`, text);
    Object.assign(made, { type: "button", title });
    made.setAttribute("aria-label", `${title}: source ${number}`);
    made.addEventListener("click", () => {
      const card = panel.querySelector(`[data-n="${number}"]`);
      if (!card) return;
      for (let one = card; one !== panel; one = one.parentElement) if (one.tagName === "DETAILS") one.open = true;
      card.querySelector("summary").focus({ preventScroll: true });
      card.scrollIntoView({ block: "nearest" });
    });
    return made;
  };
  const underline = (places, note) => {
    let last;
    for (const node of new Set(places.map((place) => place.node))) {
      const own = places.filter((place) => place.node === node), range = document.createRange();
      range.setStart(node, own[0].start);
      range.setEnd(node, own.at(-1).end);
      last = Object.assign(make("span", "unsupported", ""), { title: note });
      range.surroundContents(last);
    }
    last.append(make("span", "spoken", ` (${note}) `));
  };
  const link = (panel, place, one) => {  // behind the sentence's last letter and its full stop
    const rest = place.node.splitText(place.end), stop = rest.data.match(/^[^\p{L}\p{N}\s\[]*/u)[0].length;
    rest.splitText(stop).before(button(panel, one.passage, one.passage, "matched", one.note));
  };
  const cite = (panel, nodes, wrong) => {
    const found = nodes.flatMap((node) => [...node.data.matchAll(CITED)].map((match) => ({ node, match })));
    found.forEach((one, i) => { one.wrong = found.length === wrong.length && wrong[i]; });
    for (const { node, match, wrong } of found.reverse()) {
      const title = wrong ? "Cited, but it does not say this" : "Cited";
      const cited = node.splitText(match.index);
      cited.splitText(match[0].length);
      cited.replaceWith(button(panel, match[1], match[0], wrong ? "wrong" : "", title));
    }
  };
  const mark = (panel, root) => {
    if (root.querySelector(".unsupported, .cite")) return;
    const { sentences, wrong } = JSON.parse(panel.dataset.marks);
    const found = spread(texts(root, "button, .spoken")), all = found.map((one) => one.letter), placed = [];
    let from = 0;
    for (const one of sentences) {
      const wanted = letters(one.text).map((match) => match[0]);
      let at = from;
      while (at + wanted.length <= all.length && !wanted.every((letter, i) => letter === all[at + i])) at++;
      if (!wanted.length || at + wanted.length > all.length) continue;
      from = at + wanted.length;
      placed.push([one, found.slice(at, from)]);
    }
    for (const [one, places] of placed.reverse())
      if (one.kind === "unsupported") underline(places, one.note);
      else if (one.kind === "attributed") link(panel, places.at(-1), one);
    cite(panel, texts(root, "pre, code, a, button, .spoken"), wrong);
  };
  const answerOf = (panel) => panel.closest(".side")?.querySelector(".answer .prose") ??
    [...document.querySelectorAll("#chat [data-testid=bot]")].filter((bot) => !bot.contains(panel) &&
      bot.compareDocumentPosition(panel) & Node.DOCUMENT_POSITION_FOLLOWING).at(-1);
  // Gradio has its own button for that only where a message is nothing but text.
  document.addEventListener("click", ({ target }) => {
    if (target.matches?.(".sources .copy"))
      navigator.clipboard?.writeText(target.dataset.text).then(() => { target.textContent = "Copied"; });
  });
  let due = false;
  const look = () => {
    due = false;
    for (const panel of document.querySelectorAll(".sources[data-marks]")) {
      const answer = answerOf(panel);
      if (answer) mark(panel, answer);
    }
  };
  new MutationObserver(() => {
    if (!due) { due = true; requestAnimationFrame(look); }
  }).observe(document, { childList: true, subtree: true });
})();
"""
