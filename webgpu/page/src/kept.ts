/** What the browser keeps of the page: the conversation and the settings, in this origin's localStorage. */

import type { Profile } from "../../src/index.ts";
import { meta } from "./dom.ts";

export interface Message {
  readonly role: "user" | "assistant";
  content: string;
  /** Tokens, speed, and how it ended. */
  note?: string | undefined;
  error?: string | undefined;
}

export interface Settings {
  system: string;
  /** Null: the model's default. */
  temperature: number | null;
  /** Null: as the profile has it. */
  context: number | null;
  /** Null: as the device looks. */
  profile: Profile | null;
  theme: "auto" | "light" | "dark";
}

/** Sites on one origin must not share a conversation. */
const STORE = `edgellm.page:${new URL(meta("bundle"), document.baseURI).pathname}`;

export function load(): { messages: Message[]; settings: Settings } {
  const settings: Settings = { system: "", temperature: null, context: null, profile: null, theme: "auto" };
  try {
    const stored = JSON.parse(localStorage.getItem(STORE) ?? "{}");
    const { system, temperature, context, profile, theme } = stored.settings ?? {};
    if (typeof system === "string") settings.system = system;
    if (typeof temperature === "number") settings.temperature = temperature;
    if (Number.isInteger(context) && context > 0) settings.context = context;
    if (profile === "phone" || profile === "full") settings.profile = profile;
    if (theme === "light" || theme === "dark") settings.theme = theme;
    return { settings, messages: (stored.messages ?? []).filter(isMessage).map(plain) };
  } catch {
    return { messages: [], settings };
  }
}

export function save(messages: readonly Message[], settings: Settings): void {
  try {
    localStorage.setItem(STORE, JSON.stringify({ messages: messages.map(plain), settings }));
  } catch {
    // Private windows and full stores: the conversation lives as long as the page.
  }
}

function isMessage(value: unknown): value is Message {
  const { role, content } = (value ?? {}) as Partial<Message>;
  return (role === "user" || role === "assistant") && typeof content === "string";
}

function plain({ role, content, note, error }: Message): Message {
  return {
    role,
    content,
    note: typeof note === "string" ? note : undefined,
    error: typeof error === "string" ? error : undefined,
  };
}
