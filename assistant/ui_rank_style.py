"""The style sheet of the Rank tab."""

CSS = """
#tab-rank > .column { gap: 14px; padding-bottom: 24px; }
/* answers side by side want more room than the other tabs have, and the bar under them sticks to the window's edge */
.gradio-container.gradio-container:has([data-tab-id=rank][aria-selected=true]) { max-width: 1480px; overflow: visible; }
.rank-board { --field: #8b8d94; font: 15px/1.5 var(--font); color: var(--ink); }
.rank-board[aria-busy] .rank-cards { opacity: .6; }
.rank-board :is(p, ol, ul, h2, fieldset) { margin: 0; padding: 0; border: 0; list-style: none; min-width: 0; }
.dark .rank-board { --field: #74767d; }
.spoken { position: absolute; width: 1px; height: 1px; overflow: hidden; clip-path: inset(50%); white-space: nowrap; }
.rank-board [hidden] { display: none !important; }
.rank-label { font-size: 13px; color: var(--soft); }
.rank-top { display: flex; flex-wrap: wrap; align-items: center; gap: 8px 20px; margin-bottom: 12px; }
.rank-top label { display: flex; align-items: center; gap: 8px; }
.rank-board :is(select, textarea, input:not([type=radio])) { border: 1px solid var(--field);
  border-radius: 9px; background: var(--card); color: var(--ink); font: inherit; font-size: 14px; padding: 6px 10px; }
.rank-board.rank-board input::placeholder { color: var(--soft); opacity: 1; }
#rank-name { width: 150px; }
#rank-queue { appearance: auto; }
.rank-progress { margin-left: auto !important; padding-bottom: 6px !important; font-size: 14px; min-width: 220px;
  text-align: right; background: linear-gradient(var(--accent) 0 0) 0 100% / calc(100% * var(--share)) 3px no-repeat,
  linear-gradient(var(--line) 0 0) 0 100% / 100% 3px no-repeat; }
.rank-progress:empty { display: none; }
.rank-notice { font-size: 14px; color: var(--soft); }
.rank-notice:empty { display: none; }
.rank-notice.problem { flex: 1 0 100%; order: 1; padding: 10px 14px !important;
  border: 1px solid var(--warn-line) !important; border-radius: 12px; background: var(--warn); color: var(--warn-ink); }
.rank-prompt { margin-bottom: 14px; }
.rank-asked { width: fit-content; max-width: min(100%, 70ch); max-height: 34vh; overflow: auto;
  padding: 10px 14px !important;
  border-radius: 16px 16px 16px 4px; background: var(--bot); white-space: pre-wrap; overflow-wrap: anywhere; }
.rank-prompt details { margin-bottom: 8px; font-size: 14px; }
.rank-prompt summary { cursor: pointer; width: fit-content; color: var(--soft); font-size: 13.5px; }
.rank-line { padding: 6px 0 0 12px; border-left: 2px solid var(--line); max-width: 76ch; }
.rank-line p { white-space: pre-wrap; overflow-wrap: anywhere; }
.rank-role { font-size: 12.5px; color: var(--soft); }

.rank-cards { display: grid; gap: 14px; grid-template-columns: repeat(var(--columns, 2), minmax(0, 1fr)); }
.rank-cards:is([data-count="3"], [data-count="5"], [data-count="6"]) { --columns: 3; }
.rank-cards[data-count="4"] { --columns: 4; }
.rank-cards > li { display: flex; }
.rank-card { flex: 1; min-width: 0; display: flex; flex-direction: column; gap: 8px; padding: 12px 14px 14px;
  border: 1px solid var(--line); border-radius: 16px; background: var(--card); scroll-margin: 12px 0 190px; }
.rank-card.current { border-color: var(--accent); }
.rank-card:focus-visible { outline: 2px solid var(--accent); outline-offset: 1px; }
.rank-head { display: flex; align-items: center; gap: 10px; min-height: 34px; }
.rank-card:has(.rank-places) .rank-head, .rank-slot .rank-letter { cursor: grab; touch-action: none;
  user-select: none; }
.rank-letter { flex: none; display: grid; place-items: center; width: 30px; height: 30px; border-radius: 9px;
  background: var(--bot); color: var(--ink); font-weight: 650; font-size: 15px; }
.placed .rank-head .rank-letter, .rank-slot:not(.tray) .rank-letter { background: var(--brand);
  color: var(--on-brand); }
.rank-where { flex: 1; font-size: 13px; color: var(--soft); }
.rank-text { flex: 1; font-size: 15px; line-height: 1.6; overflow-wrap: anywhere; color: var(--ink); }
.rank-text.prose.prose :is(p, ul, ol, pre, table, blockquote) { margin: 0 0 .7em; }
.rank-text.prose.prose > :last-child { margin-bottom: 0; }
.rank-text.prose.prose ul { list-style: disc; padding-left: 1.3em; }
.rank-text.prose.prose ol { list-style: decimal; padding-left: 1.5em; }
.rank-text :is(h1, h2, h3, h4) { font-size: 15.5px !important; margin: .4em 0 .3em !important; }
.rank-text :is(pre, table) { max-width: 100%; overflow-x: auto; display: block; }
.rank-places { display: flex; gap: 4px; padding: 4px !important; border-radius: 12px; background: var(--bot); }
.rank-places label { position: relative; flex: 1; min-height: 30px; display: grid; place-items: center;
  border-radius: 9px; font-size: 14px; font-weight: 500; color: var(--soft); cursor: pointer; }
.rank-places input { position: absolute; inset: 0; width: 100%; height: 100%; margin: 0; opacity: 0; cursor: pointer; }
.rank-places label:hover { color: var(--ink); }
.rank-places label:has(:checked) { background: var(--brand); color: var(--on-brand); }
.rank-places label:has(:focus-visible) { outline: 2px solid var(--accent); outline-offset: 1px; }

.rank-bar { position: sticky; bottom: 0; z-index: 3; margin: 14px 0 0; padding: 12px 14px;
  border: 1px solid var(--line);
  border-radius: 16px; background: var(--card); box-shadow: 0 -4px 18px rgb(0 0 0 / .07); display: flex;
  flex-wrap: wrap;
  gap: 10px 16px; align-items: center; }
.rank-order { flex: 1 1 420px; display: flex; gap: 8px; min-width: 0; }
.rank-slots { flex: 1; display: grid; grid-auto-flow: column; grid-auto-columns: minmax(0, 1fr); gap: 8px; }
.rank-slot { display: flex; flex-wrap: wrap; align-content: flex-start; gap: 5px; min-height: 62px;
  padding: 5px 8px 7px !important;
  border-radius: 11px; border: 1px dashed var(--line) !important; }
.rank-slot .rank-label { flex: 1 0 100%; font-size: 12px; white-space: nowrap; }
.rank-slot.tray { flex: 0 1 158px; border-style: solid !important; background: var(--bot); }
.rank-slot.tray .rank-letter { background: var(--card); }
.rank-slot.over { border: 1px solid var(--accent) !important; box-shadow: inset 0 0 0 1px var(--accent); }
.rank-ghost { position: fixed; left: 0; top: 0; z-index: 99; pointer-events: none; background: var(--brand);
  color: var(--on-brand); box-shadow: 0 6px 18px rgb(0 0 0 / .3); }
.dragging { cursor: grabbing; user-select: none; }
.rank-buttons { display: flex; flex-wrap: wrap; gap: 8px; }
.rank-board button { margin: 0; padding: 7px 12px; border-radius: 10px; border: 1px solid var(--field);
  background: none;
  color: var(--ink); font: inherit; font-size: 14px; font-weight: 500; line-height: 1.4; cursor: pointer;
  white-space: nowrap; }
.rank-board button:hover { background: var(--bot); }
.rank-board button:disabled { opacity: .45; cursor: default; }
.rank-board button[aria-pressed=true] { border-color: var(--accent); color: var(--accent);
  box-shadow: inset 0 0 0 1px var(--accent); }
.rank-board button.yes { border-color: transparent; background: var(--brand); color: var(--on-brand); }
.rank-board button.yes:hover { filter: brightness(1.1); }
.rank-board button.yes[aria-disabled=true] { background: var(--bot); color: var(--soft); border-color: var(--line);
  cursor: default; filter: none; }
.rank-board button.correct { padding: 3px 9px; font-size: 13px; border-color: var(--line); color: var(--soft); }
.rank-board button.correct.saved { color: var(--accent); border-color: var(--accent); }
.rank-board kbd { display: inline-grid; place-items: center; min-width: 20px; padding: 0 5px; margin-left: 6px;
  border-radius: 5px;
  border: 1px solid currentcolor; font: 11.5px/1.5 var(--font); }
.rank-verdicts { display: flex; flex: 1 1 420px; gap: 8px; flex-wrap: wrap; }
.rank-verdicts button { flex: 1 1 auto; min-height: 46px; }
.rank-hint { flex: 1 0 100%; font-size: 13px; color: var(--soft); }
.rank-hint.problem { color: var(--warn-ink); font-weight: 600; }
.rank-hint:empty { display: none; }
.rank-more { display: grid; grid-template-columns: minmax(0, 3fr) minmax(220px, 2fr); gap: 12px 24px;
  margin-top: 16px; align-items: start; }
.rank-reasons { display: flex; flex-wrap: wrap; gap: 6px; align-items: center; }
.rank-reasons .rank-label { flex: 1 0 100%; }
.rank-board button.chip { padding: 4px 12px; border-radius: 999px; font-size: 13.5px; font-weight: 400;
  border-color: var(--line); }
.rank-comment { display: grid; gap: 6px; }
.rank-comment textarea { width: 100%; min-height: 36px; resize: vertical; field-sizing: content; }
.rank-keys { margin-top: 16px; font-size: 13px; color: var(--soft); }
.rank-keys ul { display: flex; flex-wrap: wrap; gap: 6px 18px; }
.rank-keys kbd { margin: 0 2px 0 0; }
.rank-skip { margin: auto; width: min(420px, 100vw - 32px); padding: 18px 20px; border: 1px solid var(--line);
  border-radius: 16px;
  background: var(--card); color: var(--ink); }
.rank-skip::backdrop { background: rgb(0 0 0 / .45); }
.rank-skip form { display: grid; gap: 14px; }
.rank-skip legend { font-weight: 650; margin-bottom: 8px; padding: 0; }
.rank-skip fieldset label { display: flex; gap: 8px; align-items: center; padding: 4px 0; font-size: 14.5px; }
.rank-skip.rank-skip input[type=radio] { appearance: auto; width: 17px; height: 17px; margin: 0;
  outline: none !important; accent-color: var(--accent); box-shadow: none; }
.rank-skip .rank-buttons { justify-content: flex-end; }
.rank-empty { max-width: 520px; margin: 6vh auto; padding: 28px; border: 1px solid var(--line); border-radius: 16px;
  background: var(--card); }
.rank-empty h2 { font-size: 19px; font-weight: 650; margin-bottom: 8px; }
.rank-empty .rank-buttons { margin-top: 16px; }
#correct-rank#correct-rank { position: fixed; z-index: 20; inset: auto 0 12px 0; margin: 0 auto;
  width: min(760px, 100vw - 24px); box-shadow: 0 8px 40px rgb(0 0 0 / .28); }  /* the answers stay in sight */
#new-queue { --block-info-text-color: var(--soft); --input-placeholder-color: var(--soft); }
#new-queue button.primary { flex: none; width: auto; background: var(--brand); color: var(--on-brand); font-size: 15px;
  white-space: nowrap; }
#new-queue .made .notice { width: 100%; }
@media (max-width: 1000px) { .rank-cards.rank-cards { --columns: 2; } }
@media (max-width: 640px) {
  .rank-cards.rank-cards { --columns: 1; }
  .rank-progress { margin-left: 0 !important; flex: 1 0 100%; text-align: left; }
  .rank-more { grid-template-columns: 1fr; }
  .rank-bar { padding: 8px 10px; gap: 8px; margin-inline: -6px; }
  .rank-order { flex-wrap: wrap; gap: 6px; }
  .rank-slot { min-height: 52px; padding: 3px 6px 5px !important; }
  .rank-slot.tray { display: none; }  /* the line under it says what is left */
  .rank-slots { gap: 5px; }
  .rank-buttons { flex: 1 0 100%; }
  .rank-bar .rank-buttons button { flex: 1 1 auto; padding: 8px 6px; }
  .rank-places label { min-height: 36px; }
}
@media (hover: none) and (pointer: coarse) { .rank-keys, .rank-board button kbd { display: none; } }
"""
