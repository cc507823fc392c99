"""The look of what stands under the chat: who wrote the last answer, the thumbs, and the reasons for one."""

CSS = """
/* who wrote the last answer, and whether it helped */
.credit { align-items: center !important; justify-content: space-between; flex: none !important;
  gap: 4px 12px !important; min-height: 28px; padding: 0 4px; flex-wrap: wrap; }
.credit:not(:has(.by p)) { display: none !important; }
.credit > .by { flex: 1 1 200px; min-width: 0 !important; width: auto; }
.by p { margin: 0 !important; font-size: 13px; color: var(--soft) !important; }
.credit .thumb.thumb { flex: none; display: inline-flex; align-items: center; gap: 6px; width: auto; min-height: 28px;
  padding: 3px 10px; border-radius: 9px; border: 1px solid transparent; background: none; color: var(--soft);
  font-size: 13px; font-weight: 500; }
.credit .thumb.thumb:hover { background: var(--bot); color: var(--ink); }
.credit .thumb.thumb.chosen { border-color: var(--accent); color: var(--accent); }
.thumb::before { content: ""; width: 15px; height: 15px; background: currentcolor;
  mask: var(--thumb) center / contain no-repeat; --thumb: url("data:image/svg+xml,\
%3Csvg xmlns='http://www.w3.org/2000/svg' viewBox='0 0 24 24' fill='none' stroke='black' stroke-width='2' \
stroke-linejoin='round'%3E%3Cpath d='M7 11v9H4v-9zM7 11l4-8c1.7 0 2.6 1.2 2.3 2.9L12.6 9H19a2 2 0 0 1 2 2.4l-1.4 7\
A2 2 0 0 1 17.6 20H7'/%3E%3C/svg%3E"); }
.thumb.down::before { transform: rotate(180deg); }
.thumb.correct::before { --thumb: url("data:image/svg+xml,\
%3Csvg xmlns='http://www.w3.org/2000/svg' viewBox='0 0 24 24' fill='none' stroke='black' stroke-width='2' \
stroke-linejoin='round'%3E%3Cpath d='M4 20l1-5L16 4l4 4L9 19zM14 6l4 4'/%3E%3C/svg%3E"); }
/* an answer is judged when it has ended */
#tab-chat:has(#message .stop-button) :is(.thumb, .why, .corrector) { display: none !important; }

/* where nothing is logged, the store refuses corrections and keeps no comments */
#tab-chat:has(.not-kept) :is(.thumb.correct, #comment) { display: none !important; }

/* why: reasons to choose from and room for words, under a thumb */
.why.why { flex: none !important; gap: 8px; padding: 10px 14px; border: 1px solid var(--line); border-radius: 16px;
  background: var(--card); }
.why .row { align-items: center; gap: 8px; flex-wrap: nowrap; }
.why .thanks p { margin: 0 !important; font-size: 13.5px; color: var(--ink) !important; }
.why.why .back.sm { flex: none; width: auto; padding: 3px 10px; border: 1px solid var(--line); border-radius: 9px;
  background: none; color: var(--ink); font-size: 13px; font-weight: 500; }
.why.why .back.sm:hover { background: var(--bot); }
.why :is(.form, .chips) { border: 0 !important; padding: 0 !important; background: none !important; box-shadow: none;
  overflow: visible !important; }
.chips .wrap { display: flex; flex-wrap: wrap; gap: 6px; }
.chips.chips .wrap label { position: relative; padding: 4px 12px; border: 1px solid var(--line); border-radius: 999px;
  background: var(--card); box-shadow: none; font-size: 13.5px; font-weight: 400; color: var(--ink); cursor: pointer; }
.chips.chips .wrap label:hover { background: var(--bot); }
.chips.chips .wrap label.selected { border-color: var(--accent); color: var(--accent);
  box-shadow: inset 0 0 0 1px var(--accent); }
.chips label input { position: absolute; opacity: 0; }
.chips label span { margin: 0; color: inherit; }
label:has(input[type=checkbox]:focus-visible) { outline: 2px solid var(--accent); outline-offset: 2px; }
#comment { border: 0 !important; overflow: visible !important; }
#comment textarea { font-size: 14px; padding: 6px 10px; min-height: 34px; border: 1px solid var(--field);
  border-radius: 10px; background: var(--page); color: var(--ink); }
#comment :is(.input-container, .container) { border: 0; box-shadow: none; background: none; align-items: center;
  gap: 8px; }
#comment .submit-button { height: 34px; padding: 0 12px; margin: 0; border-radius: 10px; font-size: 13.5px;
  border: 1px solid var(--line); background: none; color: var(--ink); }

@media (max-width: 640px) {
  .credit .thumb.thumb { min-width: 40px; min-height: 34px; font-size: 0; gap: 0; }
  .thumb.thumb::before { width: 18px; height: 18px; }
  .by p { font-size: 12.5px; }
}
"""
