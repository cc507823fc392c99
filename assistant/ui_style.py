"""The page's style sheet and Gradio theme: calm, system fonts, light and dark, coloured by the assistant's brand.

Gradio rewrites what it is given as `css`; as a style element in the head it stays what it is. The doubled selectors
are there to weigh more than Gradio's own.
"""

import gradio as gr

from assistant.ui_correct import CSS as CORRECT_CSS
from assistant.ui_correct import SCRIPT as CORRECT_SCRIPT
from assistant.ui_credit_style import CSS as CREDIT_CSS
from assistant.ui_knowledge import CSS as KNOWLEDGE_CSS
from assistant.ui_loop import CSS as LOOP_CSS
from assistant.ui_marks import SCRIPT as MARKS_SCRIPT
from assistant.ui_runs import CSS as RUNS_CSS
from assistant.ui_sign_in import CSS as SIGNED_IN_CSS
from assistant.ui_sources import CSS as SOURCES_CSS
from assistant.ui_versions import CSS as ADAPTERS_CSS

CSS = """
:root:root { --brand: #3f5e8c; --on-brand: #fff; --accent-light: #3f5e8c; --accent-dark: #8fa9d1;
  --accent: var(--accent-light); --page: #fbfbfa; --card: #fff; --line: #e4e4e0; --ink: #1f2023; --soft: #5d5f66;
  --bot: #f1f1ee; --warn-ink: #7a4300; --warn: #fff5e0; --warn-line: #ecc98a; --field: #8a8c93;
  --font: system-ui, -apple-system, "Segoe UI", Roboto, "Noto Sans", sans-serif; }
.dark.dark { --accent: var(--accent-dark); --page: #17181a; --card: #1f2023; --line: #35373c; --ink: #ececea;
  --soft: #a6a8ae; --bot: #282a2e; --warn-ink: #f3c987; --warn: #33280f; --warn-line: #6b5320;
  --field: #7d8088; }

/* frame */
body, gradio-app { background: var(--page) !important; color: var(--ink); }
.gradio-container.gradio-container { width: 100%; max-width: 1000px; margin: 0 auto; padding: 0 20px;
  background: var(--page); color: var(--ink); font-family: var(--font); }
.gradio-container > .main.fillable { padding: 8px 0 0; width: 100%; max-width: none; }
#tabs > .tab-wrapper { padding-bottom: 0; margin-bottom: 0; }
.main.fillable > .wrap, main.contain, main.contain > .column { width: 100%; }
.gradio-container .html-container { padding: 0 !important; }
#tabs, #tabs [role=tabpanel], #tabs [role=tabpanel] > .column { width: 100%; }
.gradio-container .prose.prose, .gradio-container .prose.prose * { color: inherit; font-family: var(--font); }
.gradio-container .prose.prose code, .gradio-container .prose.prose pre * { font-family: ui-monospace, monospace; }
.gradio-container a { color: var(--accent) !important; }
footer:empty { display: none; }
#tabs [role=tab] { font-size: 15px; font-weight: 500; color: var(--soft); padding: 10px 14px; }
#tabs [role=tab].selected { color: var(--accent); }
#tabs [role=tab].selected::after { background: var(--accent); }
#tabs [role=tabpanel] { padding: 16px 0 0 !important; }
:is(button, a, textarea, input, [role=tab], [role=option]):focus-visible {
  outline: 2px solid var(--accent) !important; outline-offset: 2px; }
label:has(input[type=radio]:focus-visible) { outline: 2px solid var(--accent); outline-offset: 2px; }

/* who answers */
.badge { display: flex; align-items: center; gap: 12px; }
.badge h1, .badge p, .intro h1, .intro p { margin: 0 !important; }
.badge h1, .intro h1 { font-size: 19px !important; font-weight: 650 !important; line-height: 1.3 !important; }
.badge p, .intro p { font-size: 14px; color: var(--soft) !important; line-height: 1.4; }
.mark { flex: none; display: grid; place-items: center; width: 40px; height: 40px; border-radius: 12px;
  background: var(--brand); color: var(--on-brand) !important; font-weight: 650; font-size: 18px; }
.topline { align-items: center !important; justify-content: space-between; gap: 12px !important; flex-wrap: wrap; }
.topline > .header { flex: 1 1 300px; }
.topline > .form { flex: 0 1 auto !important; min-width: 0 !important; width: auto; border: 0; box-shadow: none;
  background: none; overflow: visible; }
.segments.segments, .menu.menu { padding: 0; border: 0; background: none; min-width: 0 !important;
  overflow: visible !important; }
.menu.menu { min-width: 220px !important; }
.segments .wrap { display: flex; flex-wrap: wrap; gap: 4px; padding: 4px; border-radius: 12px; background: var(--bot); }
.segments.segments .wrap label { position: relative; padding: 6px 12px; border: 0; border-radius: 9px; background: none;
  box-shadow: none; color: var(--soft); font-weight: 500; font-size: 14px; cursor: pointer; }
.segments.segments .wrap label:hover { color: var(--ink); }
.segments.segments .wrap label.selected { background: var(--card); color: var(--ink);
  box-shadow: 0 1px 3px rgb(0 0 0 / .16); }
.segments label input { position: absolute; opacity: 0; }
.segments label span { margin: 0; color: inherit; }

/* chat */
#tab-chat > .column { gap: 12px; height: calc(100dvh - 64px); min-height: 480px; }
#chat { flex: 1 1 0 !important; min-height: 0; height: auto !important; border: 1px solid var(--line) !important;
  border-radius: 16px; background: var(--card); overflow: hidden !important; }
#chat .bubble-wrap { background: none; padding: 8px 4px; }
#chat .top-panel { display: none; }
#chat .message-wrap { font-size: 15px; line-height: 1.55; }
#chat .message-wrap .prose.prose { font-size: 15px; line-height: 1.55; opacity: 1; }
#chat .placeholder-content { height: auto; min-height: 100%; justify-content: center; gap: 24px; padding: 16px; }
#chat .placeholder.placeholder { flex: none; height: auto; padding: 0; }
#chat .welcome { max-width: 34em; margin: 0 auto; font-size: 19px; line-height: 1.5; text-align: center;
  text-wrap: balance; }
#chat .examples { display: grid; grid-template-columns: repeat(auto-fit, minmax(230px, 1fr)); gap: 10px; width: 100%;
  max-width: 660px; padding: 0 !important; margin: 0 auto; }
#chat .example { max-width: none; min-width: 0; width: 100%; height: auto; min-height: 52px; padding: 12px 14px;
  border: 1px solid var(--line); border-radius: 12px; background: var(--page); text-align: left; }
#chat .example:hover { border-color: var(--accent); transform: none; }
#chat .example-text { font-size: 14px; color: var(--ink); }
#chat .message-row { max-width: min(88%, 660px); }
#chat .flex-wrap > .message { border: 0; box-shadow: none; border-radius: 16px; padding: 10px 14px; }
#chat .flex-wrap > .user.message { background: var(--brand); color: var(--on-brand); border-bottom-right-radius: 4px; }
#chat .flex-wrap > .bot.message { background: var(--bot); color: var(--ink); border-bottom-left-radius: 4px; }
#chat .user-row a { color: inherit !important; text-decoration: underline; }
#chat .message .prose.prose > :first-child { margin-top: 0; }
#chat .message .prose.prose > :last-child { margin-bottom: 0; }
#chat .message-content, .answer .prose { overflow-wrap: anywhere; }
#chat .message-buttons .icon-button-wrapper { background: none; border: 0; box-shadow: none; }
#chat .message-buttons { margin-top: -4px; margin-bottom: 6px; }
#chat .message-buttons button { min-width: 28px; min-height: 28px; background: none; }
#chat .bot-row:has([aria-label="bot's message: …"]) + .message-buttons { visibility: hidden; }
#chat .message-wrap textarea { min-width: min(420px, 66vw); color: var(--ink); background: var(--card);
  font-size: 15px; }
:is(#chat .message, .answer) img { display: none; }

/* what the page itself says: the waiting dots and notices; the label is all that Gradio marks a message with */
#chat .message:has(> [aria-label="bot's message: …"]) { color: var(--soft); animation: waiting 1.2s infinite; }
#chat .message:has(> [aria-label^="bot's message: ⚠"]), .notice { padding: 10px 14px; border-radius: 12px;
  border: 1px solid var(--warn-line) !important; background: var(--warn) !important; color: var(--warn-ink) !important;
  font-size: 14px; line-height: 1.5; }
#chat .message.thought:has(> [aria-label^="bot's message: ⚠"]) { margin-top: 10px; }
#chat .bot.message:has(> .message:only-child > [aria-label^="bot's message: ⚠"]) { padding: 0; background: none; }
.waiting { display: flex; gap: 5px; padding: 8px 0; }
.waiting i { width: 7px; height: 7px; border-radius: 50%; background: var(--soft); animation: waiting 1.2s infinite; }
.waiting i:nth-child(2) { animation-delay: .2s; } .waiting i:nth-child(3) { animation-delay: .4s; }
@keyframes waiting { 50% { opacity: .25; } }
@media (prefers-reduced-motion: reduce) { * { animation: none !important; transition: none !important; } }

/* where a person writes */
#message, #question { flex: none; border: 1px solid var(--line) !important; border-radius: 16px;
  background: var(--card); overflow: hidden; padding: 6px; box-shadow: 0 1px 3px rgb(0 0 0 / .05); }
#message:focus-within, #question:focus-within { border-color: var(--accent) !important;
  box-shadow: 0 0 0 1px var(--accent); }
:is(#message, #question) .input-container { border: 0; box-shadow: none; background: none; align-items: flex-end; }
:is(#message, #question) textarea { border: 0; background: none; box-shadow: none; padding: 9px 10px !important;
  font-size: 16px; line-height: 22px; min-height: 40px; color: var(--ink); outline: none !important; }
:is(#message, #question) textarea::placeholder { color: var(--soft); }
:is(#message, #question) :is(.submit-button, .stop-button) { height: 40px; padding: 0 18px; border-radius: 11px;
  margin: 0; background: var(--brand); color: var(--on-brand); font-weight: 600; font-size: 15px; white-space: nowrap; }
:is(#message, #question) .submit-button:hover { filter: brightness(1.1); }
:is(#message, #question) .stop-button { background: var(--bot); color: var(--ink); border: 1px solid var(--line); }
.underline { align-items: center !important; justify-content: space-between; flex: none; padding: 0 4px 12px;
  flex-wrap: nowrap !important; }
.underline > .hint { flex: 1 1 auto; min-width: 0 !important; }
.hint p { margin: 0 !important; font-size: 13px; color: var(--soft) !important; }
#clear { flex: none; width: auto; padding: 6px 12px; border-radius: 9px; background: none; color: var(--ink);
  border: 1px solid var(--line); font-weight: 500; }
#clear:hover { background: var(--bot); }

/* compare */
#tab-compare > .column { gap: 14px; padding-bottom: 24px; }
.row.examples { gap: 8px !important; flex-wrap: wrap; }
.row.examples.examples > button { flex: 0 1 auto; width: auto; padding: 8px 14px; border: 1px solid var(--line);
  border-radius: 999px; background: var(--card); color: var(--ink); font-size: 13.5px;
  font-weight: 400; text-align: left; }
.row.examples.examples > button:hover { border-color: var(--accent); background: var(--card); }
.asked p { width: fit-content; max-width: 100%; margin: 0 !important; padding: 10px 14px;
  border-radius: 16px 16px 16px 4px; background: var(--bot); font-size: 15px; overflow-wrap: anywhere; }
.asked:not(:has(p)) { display: none; }
.sides { align-items: stretch !important; gap: 16px !important; }
.side { gap: 10px !important; padding: 16px; border: 1px solid var(--line); border-radius: 16px;
  background: var(--card); }
.side .who { align-items: center !important; gap: 12px !important; flex-wrap: nowrap !important; }
.side .who > .face { flex: none; width: 40px; min-width: 40px !important; }
.side .who > .form { flex: 1 1 0 !important; min-width: 0 !important; border: 0; background: none; box-shadow: none;
  overflow: visible; }
.side .picker { min-width: 0 !important; }
:is(.picker, .menu) .wrap { background: var(--page); border: 1px solid var(--line); border-radius: 11px;
  box-shadow: none; }
:is(.picker, .menu) .wrap:focus-within { border-color: var(--accent) !important;
  box-shadow: 0 0 0 1px var(--accent) !important; }
ul.options { border: 1px solid var(--line); background: var(--card) !important; }
:is(.picker, .menu) input:focus-visible { outline: none !important; }
.picker input { font-weight: 600; font-size: 15px; color: var(--ink); }
.side .answer { padding: 0 !important; overflow: visible !important; }
.side .answer .prose.prose { font-size: 15px; line-height: 1.6; }
/* an answer such as "2011." is the number of an empty item to Markdown: it must not stand outside */
:is(#chat, .answer) ol:has(> li:only-child:empty) { padding: 0 !important; list-style-position: inside; }
:is(#chat, .answer) li:only-child:empty { margin: 0 !important; list-style-position: inside; }
.side .answer pre, #chat pre { max-width: 100%; overflow-x: auto; }
.side .answer .prose > span { display: block; overflow-x: auto; }
.side .block.note:not(:has(.notice, .waiting, .sources)) { display: none; }

.nobody { max-width: 520px; margin: 12vh auto !important; padding: 28px; font-size: 15px;
  border: 1px solid var(--line); border-radius: 16px; background: var(--card); }
.nobody a { padding: 0 !important; }
.nobody h1 { font-size: 20px !important; margin: 0 0 10px !important; }

@media (max-width: 640px) {
  .gradio-container.gradio-container { padding: 0 12px; }
  #tab-chat > .column { min-height: 420px; gap: 10px; }
  .segments.segments .wrap label { padding: 6px 8px; font-size: 13.5px; }
  #tab-compare .examples button:nth-of-type(n + 3), #tab-compare .examples:has(+ .asked p) { display: none; }
  .topline > .header, .topline > .form { flex: 1 1 100% !important; }
  .segments .wrap label { flex: 1 1 auto; justify-content: center; }
  #chat .examples { grid-template-columns: 1fr; }
  #chat .welcome { font-size: 17px; }
  #chat .message-row { max-width: 94%; }
  .hint p { font-size: 12px; }
}
"""

# Each tab has an address; only a click changes it, because Gradio also "selects" a tab while the page loads.
SCRIPT = """
document.addEventListener("click", (event) => {
  const tab = event.target.closest?.("[role=tab][data-tab-id]")?.dataset.tabId;
  if (tab) history.replaceState(null, "", tab === "chat" ? location.pathname : "?tab=" + tab);
});
// A session that has ended leads to the form; without this the page would fall silent.
const ask = window.fetch;
window.fetch = async (...what) => {
  const answer = await ask(...what);
  if (answer.status === 401) location.reload();
  return answer;
};
// Gradio calls the example questions a list, but buttons are no list's items.
new MutationObserver(() => document.querySelectorAll("#chat .examples[role=list]").forEach((examples) => {
  examples.setAttribute("role", "group");
  examples.setAttribute("aria-label", "Example questions");
})).observe(document, { childList: true, subtree: true });
"""
STYLES = (CSS, ADAPTERS_CSS, LOOP_CSS, RUNS_CSS, SOURCES_CSS, KNOWLEDGE_CSS, CREDIT_CSS, CORRECT_CSS, SIGNED_IN_CSS)
HEAD = f"<style>{''.join(STYLES)}</style><script>{SCRIPT}{MARKS_SCRIPT}{CORRECT_SCRIPT}</script>"


def build_theme() -> gr.themes.Base:
    """Gradio's plain theme with system fonts, neutral greys and round corners."""
    return gr.themes.Default(
        neutral_hue="zinc", radius_size="lg", font=("system-ui", "sans-serif"), font_mono=("ui-monospace", "monospace")
    )
