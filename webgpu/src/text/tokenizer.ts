/** A `tokenizer.json` together with what the engine must know about it. */

import { Tokenizer as Backend } from "@huggingface/tokenizers";
import type { TokenizerFacts } from "../bundle/manifest.ts";
import { EdgeLLMError, reason } from "../errors.ts";

export const MAX_TOKENIZER_BYTES = 64 << 20;

/** Text to token ids and back, as the checkpoint's own tokenizer does. */
export class Tokenizer {
  readonly facts: TokenizerFacts;
  readonly #backend: Backend;

  /**
   * @param json the text of tokenizer.json.
   * @throws {EdgeLLMError} `bundle`: it cannot be read.
   */
  constructor(json: string, facts: TokenizerFacts) {
    this.facts = facts;
    try {
      // The second file of other runtimes only matters for a clean-up of spaces that nobody wants here.
      this.#backend = new Backend(JSON.parse(json), { clean_up_tokenization_spaces: false });
    } catch (error) {
      throw new EdgeLLMError(
        "bundle",
        `tokenizer.json cannot be read (${reason(error)}); build the bundle again`,
      );
    }
  }

  /**
   * Token ids of `text`. Special tokens written out in the text become single ids.
   *
   * @param around put the checkpoint's own prefix and suffix around the text (usually the bos token); not for
   *   text from a chat template, which contains them already.
   */
  encode(text: string, around: boolean): number[] {
    let ids: number[];
    try {
      ids = text === "" ? [] : this.#backend.encode(text, { add_special_tokens: false }).ids;
    } catch (error) {
      throw new EdgeLLMError("request", `the text cannot be tokenized (${reason(error)})`);
    }
    return around ? [...this.facts.prefix_ids, ...ids, ...this.facts.suffix_ids] : ids;
  }

  /** Text of `ids`, without special tokens and ids that are no token. Incomplete UTF-8 becomes U+FFFD. */
  decode(ids: readonly number[]): string {
    const known = ids.filter((id) => this.#backend.id_to_token(id) !== undefined);
    return known.length ? this.#backend.decode(known, { skip_special_tokens: true }) : "";
  }

  /** The token as its vocabulary spells it; empty if no token has this id. */
  token(id: number): string {
    return this.#backend.id_to_token(id) ?? "";
  }
}
