/** The chat page. */

import { bytesText } from "../../src/units.ts";
import { atEnd, Conversation, toEnd } from "./conversation.ts";
import { byId, say } from "./dom.ts";
import { load, save } from "./kept.ts";
import { guard } from "./policy.ts";
import { fullContext, Session } from "./session.ts";
import { wireSettings } from "./settings.ts";

const MOST_LINES = 12;

guard();
const { messages, settings } = load();
const prompt = byId<HTMLTextAreaElement>("prompt");
const send = byId<HTMLButtonElement>("send");
/** Index of the message that sending replaces. */
let editing: number | null = null;
/** Whether a service worker has the page. */
let pageKept = false;

const keep = (): void => save(messages, settings);
const session: Session = new Session(
  settings,
  () => {
    conversation.show();
    refresh();
  },
  keep,
);
const conversation: Conversation = new Conversation(messages, {
  engine: () => session.engine,
  settings,
  onEdit: edit,
  onChange: refresh,
  save: keep,
});

function refresh(): void {
  const { answering } = conversation;
  document.body.classList.toggle("answering", answering);
  send.setAttribute("aria-label", answering ? "Stop the answer" : "Send");
  const idle = !answering && (!session.engine || !prompt.value.trim());
  if (idle && document.activeElement === send) prompt.focus(); // a button that is off loses the keyboard
  send.disabled = idle;
  const info = session.engine?.info;
  const memory = info ? info.memory.weights + info.memory.cache + info.memory.step : 0;
  byId("facts").textContent = info
    ? `${bytesText(memory)} of memory · ${info.context.toLocaleString("en")} tokens of context · ${info.device}`
    : "not loaded";
}

function edit(index: number): void {
  const message = messages[index];
  if (!message || conversation.answering) return;
  editing = index;
  prompt.value = message.content;
  byId("editing").hidden = false;
  grow();
  refresh();
  prompt.focus();
}

function leaveEditing(): void {
  editing = null;
  byId("editing").hidden = true;
}

function submit(): void {
  const text = prompt.value.trim();
  if (!text || conversation.answering || !session.engine) return;
  prompt.value = "";
  grow();
  const at = editing ?? messages.length;
  leaveEditing();
  conversation.send(text, at);
}

function grow(): void {
  prompt.rows = 1;
  const line = Number.parseFloat(getComputedStyle(prompt).lineHeight);
  const padding = prompt.clientHeight - line;
  prompt.rows = Math.min(MOST_LINES, Math.max(1, Math.round((prompt.scrollHeight - padding) / line)));
}

byId("composer").addEventListener("submit", (event) => {
  event.preventDefault();
  if (conversation.answering) conversation.stop();
  else submit();
});
prompt.addEventListener("input", () => {
  grow();
  refresh();
});
prompt.addEventListener("keydown", (event) => {
  if (event.key === "Enter" && !event.shiftKey && !event.isComposing) {
    event.preventDefault();
    submit();
  }
});
document.addEventListener("keydown", (event) => {
  if (event.key !== "Escape" || byId<HTMLDialogElement>("settings").open) return;
  if (conversation.answering) conversation.stop();
  else if (editing !== null) {
    leaveEditing();
    prompt.value = "";
    grow();
    refresh();
  }
});
byId("leave-editing").addEventListener("click", () => {
  leaveEditing();
  prompt.value = "";
  grow();
  refresh();
  prompt.focus();
});
byId("new").addEventListener("click", () => {
  leaveEditing();
  conversation.clear();
  say("New chat");
  prompt.focus();
});
byId("undo").addEventListener("click", () => {
  conversation.undo();
  toEnd();
  say("The chat before is back");
  prompt.focus();
});
addEventListener("pagehide", () => {
  if (conversation.answering) keep(); // another page of this site may have kept more since
});
byId("scroll").addEventListener("scroll", () => {
  byId("latest").hidden = atEnd();
});
byId("latest").addEventListener("click", () => {
  toEnd();
  byId("scroll").focus(); // the button hides itself
});

wireSettings({
  settings,
  fullContext,
  info: () => session.engine?.info ?? null,
  pageKept: () => pageKept,
  onDone: (reload) => {
    keep();
    if (reload) void session.reopen();
    prompt.focus();
  },
  onRemove: () => void session.remove(),
});

conversation.show();
toEnd();
refresh();
void session.begin();
// A browser that refuses has the page for as long as there is a network.
const { serviceWorker } = navigator as Partial<Navigator>;
serviceWorker?.register("./sw.js").catch(() => undefined);
void serviceWorker?.ready.then(() => {
  pageKept = true;
});
