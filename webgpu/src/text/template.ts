/** Messages to a prompt, by the Jinja template that comes with a checkpoint. */

import { Template } from "@huggingface/jinja";
import type { TokenizerFacts } from "../bundle/manifest.ts";
import { EdgeLLMError, reason } from "../errors.ts";

export const MAX_TEMPLATE_BYTES = 1 << 20;
/** Characters of all messages, and of what a template makes of them. */
const MAX_CHARS = 4 << 20;

/** One turn of a conversation. */
export interface Message {
  readonly role: string;
  /** A text, or parts of one. */
  readonly content: string | readonly TextPart[];
}

export interface TextPart {
  readonly type: "text";
  readonly text: string;
}

export class ChatTemplate {
  readonly #template: Template;
  readonly #tokens: Readonly<Record<string, string>>;

  /** @throws {EdgeLLMError} `template`: it is malformed. */
  constructor(source: string, facts: TokenizerFacts) {
    const { bos_token, eos_token, unk_token } = facts;
    this.#tokens = { bos_token, eos_token, unk_token };
    try {
      this.#template = new Template(source);
    } catch (error) {
      throw new EdgeLLMError("template", `the chat template cannot be read (${reason(error)})`);
    }
  }

  /**
   * The prompt for `messages`, ending with the opening of the assistant's answer.
   *
   * @throws {EdgeLLMError} `template`: it refuses the messages or fails. `request`: they are no messages.
   */
  render(messages: readonly Message[]): string {
    const plain = checked(messages);
    let prompt: string;
    try {
      prompt = this.#template.render({
        messages: plain,
        add_generation_prompt: true,
        tools: null,
        documents: null,
        ...this.#tokens,
      });
    } catch (error) {
      throw new EdgeLLMError("template", `the chat template refuses these messages (${reason(error)})`);
    }
    if (prompt.length > MAX_CHARS) throw new EdgeLLMError("request", "the messages are too long");
    return prompt;
  }
}

/** Copies of the messages with nothing but texts in them. */
function checked(messages: readonly Message[]): { role: string; content: string }[] {
  if (!Array.isArray(messages) || messages.length === 0) {
    throw new EdgeLLMError("request", "messages must be a list of at least one { role, content }");
  }
  let chars = 0;
  const plain = messages.map((message: Partial<Message> | null, index) => {
    const role = message?.role;
    const content = textOf(message?.content);
    if (typeof role !== "string" || content === null) {
      throw new EdgeLLMError(
        "request",
        `messages[${index}] must have a role, a text, and a content: a text, or a list of { type: "text", text }`,
      );
    }
    chars += role.length + content.length;
    return { role: role === "developer" ? "system" : role, content };
  });
  if (chars > MAX_CHARS) throw new EdgeLLMError("request", "the messages are too long");
  return plain;
}

/** One text of a text or a list of parts; null if it is neither. */
function textOf(content: unknown): string | null {
  if (typeof content === "string") return content;
  if (!Array.isArray(content)) return null;
  const parts = content.map((part: Partial<TextPart> | null) => (part?.type === "text" ? part.text : null));
  return parts.every((one) => typeof one === "string") ? parts.join("") : null;
}
