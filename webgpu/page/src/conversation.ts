/** The conversation: what was said, shown, streamed, stopped, edited and tried again. */

import type { BrowserEngine } from "../../src/index.ts";
import { EdgeLLMError } from "../../src/index.ts";
import { button, byId, icon, make, say } from "./dom.ts";
import type { Message, Settings } from "./kept.ts";
import { fill, Sentences } from "./render.ts";

const COPY = "M7 7V4h9v9h-3M4 7h9v9H4z";
const AGAIN = "M15.5 8A6 6 0 1 0 16 11M16 4v4h-4";
const EDIT = "M4 16l1-4 8-8 3 3-8 8-4 1zM11.5 5.5l3 3";
/** Distance from the end within which the view follows the answer, pixels. */
const NEAR_END = 80;
/** An answer on its way is kept this often, ms. */
const KEEP_EVERY = 2000;

/** What the page does for a conversation. */
export interface Host {
  readonly engine: () => BrowserEngine | null;
  readonly settings: Settings;
  readonly onEdit: (index: number) => void;
  readonly onChange: () => void;
  readonly save: () => void;
}

/** What is known about an answer while it comes; times in ms. */
interface Run {
  readonly asked: number;
  first: number | null;
  last: number;
  tokens: number;
  ending: "stop" | "length" | "stopped";
}

const log = byId("log");
const view = byId("scroll");

export class Conversation {
  readonly messages: Message[];
  readonly #host: Host;
  #answering: AbortController | null = null;
  #busy: Message | null = null;
  /** What a new chat took the place of. */
  #before: Message[] = [];

  constructor(messages: Message[], host: Host) {
    this.messages = messages;
    this.#host = host;
  }

  get answering(): boolean {
    return this.#answering !== null;
  }

  stop(): void {
    this.#answering?.abort();
  }

  clear(): void {
    this.stop();
    if (this.messages.length > 0) this.#before = [...this.messages];
    this.messages.length = 0;
    this.#host.save();
    this.show();
  }

  /** Brings back the chat that a new one took the place of. */
  undo(): void {
    this.messages.push(...this.#before.splice(0));
    this.#host.save();
    this.show();
  }

  /** Says `text` and gets an answer. @param at message that it replaces, with all that follow. */
  send(text: string, at = this.messages.length): void {
    this.#before = [];
    this.messages.length = at;
    this.messages.push({ role: "user", content: text });
    this.#host.save();
    void this.#answer();
  }

  show(): void {
    const held = log.contains(document.activeElement);
    byId("welcome").hidden = this.messages.length > 0;
    byId("undo").hidden = this.#before.length === 0;
    log.replaceChildren(...this.messages.map((message, index) => this.#turn(message, index)));
    if (held) byId("prompt").focus(); // what was pressed is another element now, or gone
  }

  async #answer(): Promise<void> {
    const engine = this.#host.engine();
    if (!engine) return;
    const controller = new AbortController();
    const history = this.#history();
    const message: Message = { role: "assistant", content: "" };
    const run: Run = { asked: performance.now(), first: null, last: 0, tokens: 0, ending: "stop" };
    this.messages.push(message);
    this.#answering = controller;
    this.#busy = message;
    this.#host.onChange();
    this.show();
    toEnd();
    say("Answering");
    const writer = new Writer(log.lastElementChild as HTMLElement, message);
    let kept = run.asked;
    try {
      for await (const { text, tokens, ending } of pieces(
        engine,
        history,
        this.#host.settings,
        controller.signal,
      )) {
        run.last = performance.now();
        run.first ??= run.last;
        run.tokens += tokens;
        if (ending === "length") run.ending = ending;
        message.content += text;
        writer.changed();
        if (run.last - kept > KEEP_EVERY && this.messages.at(-1) === message) {
          kept = run.last;
          this.#host.save();
        }
      }
    } catch (error) {
      if (controller.signal.aborted) run.ending = "stopped";
      else message.error = explain(error);
    }
    message.note = describe(run);
    this.#answering = null;
    this.#busy = null;
    const here = this.messages.at(-1) === message; // else a new chat was begun meanwhile
    if (here && !message.content && controller.signal.aborted) this.messages.pop();
    const follow = atEnd();
    writer.end();
    if (here) {
      this.show();
      if (follow) toEnd();
      if (run.ending === "stopped") say("Stopped");
      else if (message.error) say(message.error);
      this.#host.save();
    }
    this.#host.onChange();
  }

  #history(): { role: string; content: string }[] {
    const turns: { role: string; content: string }[] = this.messages
      .filter((one) => one.content)
      .map(({ role, content }) => ({ role, content }));
    const system = this.#host.settings.system.trim();
    return system ? [{ role: "system", content: system }, ...turns] : turns;
  }

  #turn(message: Message, index: number): HTMLElement {
    const item = make("li", `turn ${message.role}`);
    item.append(make("span", "unseen", message.role === "user" ? "You:" : "Answer:"));
    const text = make("div", "text");
    if (message.role === "user") {
      text.textContent = message.content;
      item.append(text);
      if (!this.#busy) {
        const row = make("div", "under");
        row.append(tool("Edit", EDIT, () => this.#host.onEdit(index)));
        if (index === this.messages.length - 1) row.append(this.#againTool());
        item.append(row);
      }
      return item;
    }
    const mark = make("img");
    mark.src = "./icon.svg";
    mark.alt = "";
    const body = make("div", "body");
    fill(text, message.content);
    body.append(text);
    if (message.error) body.append(make("p", "notice", message.error));
    const busy = message === this.#busy;
    item.classList.toggle("busy", busy);
    if (busy) item.setAttribute("aria-busy", "true");
    else body.append(this.#under(message));
    item.append(mark, body);
    return item;
  }

  #under(message: Message): HTMLElement {
    const row = make("div", "under");
    if (message.content) row.append(tool("Copy", COPY, () => void copy(message.content)));
    if (message === this.messages.at(-1)) row.append(this.#againTool());
    if (message.note) row.append(make("span", "note", message.note));
    return row;
  }

  #againTool(): HTMLButtonElement {
    const made = tool("Try again", AGAIN, () => {
      if (this.messages.at(-1)?.role === "assistant") this.messages.pop();
      void this.#answer();
    });
    made.disabled = this.#host.engine() === null;
    return made;
  }
}

/** Writes a growing answer into its item: once a frame for the eye, by whole sentences for a screen reader. */
class Writer {
  readonly #text: HTMLElement;
  readonly #message: Message;
  readonly #sentences = new Sentences();
  readonly #spoken = byId("spoken");
  #frame = 0;

  constructor(item: HTMLElement, message: Message) {
    this.#text = item.querySelector<HTMLElement>(".text") ?? item;
    this.#message = message;
    this.#spoken.replaceChildren();
  }

  changed(): void {
    this.#frame ||= requestAnimationFrame(() => {
      this.#frame = 0;
      const follow = atEnd();
      fill(this.#text, this.#message.content);
      if (follow) toEnd();
      this.#speak(this.#sentences.next(this.#message.content));
    });
  }

  end(): void {
    cancelAnimationFrame(this.#frame);
    fill(this.#text, this.#message.content);
    this.#speak(this.#sentences.next(this.#message.content, true));
  }

  #speak(text: string): void {
    if (text) this.#spoken.append(make("p", "", text));
  }
}

interface AnswerPart {
  readonly text: string;
  readonly tokens: number;
  readonly ending: "stop" | "length" | null;
}

/** The answer to a conversation; a model without a chat template goes on with the last message instead. */
async function* pieces(
  engine: BrowserEngine,
  messages: readonly { role: string; content: string }[],
  { temperature }: Settings,
  signal: AbortSignal,
): AsyncGenerator<AnswerPart, void> {
  const options = { temperature, signal, stream: true } as const;
  if (engine.info.chat) {
    for await (const { choices } of await engine.chat.completions.create({ messages, ...options })) {
      const [choice] = choices;
      if (!choice) continue;
      const { delta, token_ids, finish_reason } = choice;
      yield { text: delta.content ?? "", tokens: token_ids.length, ending: finish_reason };
    }
    return;
  }
  const prompt = messages.at(-1)?.content ?? "";
  for await (const { choices } of await engine.completions.create({ prompt, ...options })) {
    const [choice] = choices;
    if (choice) yield { text: choice.text, tokens: choice.token_ids.length, ending: choice.finish_reason };
  }
}

function describe({ asked, first, last, tokens, ending }: Run): string {
  if (first === null) return ending === "stopped" ? "stopped by you" : "";
  const found = [`${tokens.toLocaleString("en")} ${tokens === 1 ? "token" : "tokens"}`];
  const seconds = (last - first) / 1000;
  if (tokens > 2 && seconds > 0) found.push(`${((tokens - 1) / seconds).toFixed(1)} tokens/s`);
  found.push(`first after ${((first - asked) / 1000).toFixed(2)} s`);
  if (ending === "length") found.push("the context is full");
  if (ending === "stopped") found.push("stopped by you");
  return found.join(" · ");
}

function explain(error: unknown): string {
  if (!(error instanceof EdgeLLMError)) return `The page failed: ${error}`;
  if (error.code === "prompt_too_long") {
    return "The conversation no longer fits into the context. Start a new chat, edit an earlier message, or choose a larger context in the settings.";
  }
  if (error.code === "device_lost") return "The graphics device stopped in the middle of this answer.";
  if (error.code === "closed") return "The model was closed in the middle of this answer.";
  return error.message;
}

function tool(label: string, path: string, act: () => void): HTMLButtonElement {
  const made = button(label, "", act);
  made.prepend(icon(path));
  return made;
}

async function copy(text: string): Promise<void> {
  try {
    await navigator.clipboard.writeText(text);
    say("Copied");
  } catch {
    say("The browser did not allow copying");
  }
}

export function atEnd(): boolean {
  return view.scrollHeight - view.scrollTop - view.clientHeight < NEAR_END;
}

export function toEnd(): void {
  view.scrollTop = view.scrollHeight;
}
