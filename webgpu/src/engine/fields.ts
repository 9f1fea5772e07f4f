/**
 * Fields of a request that would change the answer and are not supported: refused, never ignored. Every other
 * unknown field (`user`, `store`, `metadata`, …) changes nothing in an answer, and clients send them unasked.
 */

import { EdgeLLMError } from "../errors.ts";

const TOOLS = "there are no tool calls";
const CONSTRAINED = "answers cannot be held to a grammar or schema; ask for the form in the prompt";
const TEXT_ONLY = "text is the only input and output";
const TEMPLATE = "the bundle's own chat template is used as it is";
const SAMPLER = "this sampler does not exist here; temperature, top_k, top_p and min_p do";
const BEAMS = "beam search does not exist here";
const TOKENS = "the field is called max_tokens here";
const BIAS = "use logit_bias";
const ENDING = "answers end as the model ends them, at max_tokens, or at a text of stop";

/** Why a field is refused, and the values, as JSON, beside null that mean nothing special. */
const REFUSED: Readonly<Record<string, readonly [why: string, ...off: string[]]>> = {
  n: ["a request gets one answer; send several requests", "1"],
  best_of: ["a request gets one answer", "1"],
  functions: [TOOLS, "[]"],
  function_call: [TOOLS, '"none"', '"auto"'],
  response_format: [CONSTRAINED, '{"type":"text"}'],
  json_schema: [CONSTRAINED],
  grammar: [CONSTRAINED, '""'],
  guided_json: [CONSTRAINED],
  guided_regex: [CONSTRAINED],
  guided_choice: [CONSTRAINED],
  guided_grammar: [CONSTRAINED],
  structured_outputs: [CONSTRAINED],
  modalities: [TEXT_ONLY, '["text"]'],
  audio: [TEXT_ONLY],
  web_search_options: ["nothing here searches the network"],
  reasoning_effort: ["the model's template has no such setting", '"none"'],
  verbosity: ["the model's template has no such setting", '"medium"'],
  suffix: ["text can only be continued, not filled in", '""'],
  echo: ["the prompt is never part of the answer", "false"],
  use_beam_search: [BEAMS, "false"],
  num_beams: [BEAMS, "1"],
  length_penalty: [BEAMS, "1"],
  typical_p: [SAMPLER, "1"],
  top_a: [SAMPLER, "0"],
  tfs_z: [SAMPLER, "1"],
  mirostat: [SAMPLER, "0"],
  dry_multiplier: [SAMPLER, "0"],
  xtc_probability: [SAMPLER, "0"],
  dynatemp_range: [SAMPLER, "0"],
  repeat_penalty: ["the field is called repetition_penalty here", "1"],
  n_predict: [TOKENS],
  num_predict: [TOKENS],
  min_tokens: [ENDING, "0"],
  ignore_eos: [ENDING, "false"],
  stop_token_ids: [ENDING, "[]"],
  include_stop_str_in_output: [ENDING, "false"],
  bad_words: [BIAS, "[]"],
  allowed_token_ids: [BIAS],
  prompt_logprobs: ["only the answer's tokens have log-probabilities"],
  skip_special_tokens: ["special tokens are never part of the answer", "true"],
  truncate_prompt_tokens: ["prompts are never cut; shorten it yourself"],
  chat_template: [TEMPLATE],
  chat_template_kwargs: [TEMPLATE, "{}"],
  add_generation_prompt: [TEMPLATE, "true"],
  continue_final_message: [TEMPLATE, "false"],
  documents: [TEMPLATE, "[]"],
};

/** @throws {EdgeLLMError} `request`: names the first field that would change the answer. */
export function refuseUnsupported(body: object): void {
  const given = body as Readonly<Record<string, unknown>>;
  const { tools, tool_choice: choice } = given;
  const offered = Array.isArray(tools) ? tools.length > 0 : (tools ?? null) !== null;
  if (offered && choice !== "none") refuse("tools", TOOLS);
  if (![undefined, null, "none", "auto"].includes(choice as string)) refuse("tool_choice", TOOLS);
  for (const [name, [why, ...off]] of Object.entries(REFUSED)) {
    const value = given[name] ?? null;
    if (value !== null && !off.includes(JSON.stringify(value))) refuse(name, why);
  }
}

function refuse(name: string, why: string): never {
  throw new EdgeLLMError("request", `${name} is not supported: ${why}`, { field: name });
}
