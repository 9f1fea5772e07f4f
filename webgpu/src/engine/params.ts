/** How the tokens of one request are chosen, and when it ends. */

import { EdgeLLMError } from "../errors.ts";

export const MAX_STOPS = 16;
export const MAX_STOP_CHARS = 256;
export const MAX_LOGPROBS = 20;

/** Names and meanings are those of the OpenAI and vLLM servers. */
export interface SamplingParams {
  /** New tokens at most; null: until the context is full. */
  readonly maxTokens: number | null;
  /** 0: greedy. */
  readonly temperature: number;
  /** 0: off. */
  readonly topK: number;
  /** 1: off. */
  readonly topP: number;
  /** 0: off. */
  readonly minP: number;
  /** Divides (multiplies, if negative) the logits of tokens seen in prompt or answer; 1: off. */
  readonly repetitionPenalty: number;
  /** Subtracted once for tokens of the answer. */
  readonly presencePenalty: number;
  /** Subtracted per occurrence for tokens of the answer. */
  readonly frequencyPenalty: number;
  /** Added to the logits of tokens. */
  readonly logitBias: ReadonlyMap<number, number>;
  /** Same seed, same request: same tokens. Null: a new one each time. */
  readonly seed: number | null;
  /** The answer ends before the first of these texts. */
  readonly stop: readonly string[];
  /** Null: none; k: log-probability of each chosen token and of the k likeliest ones. */
  readonly logprobs: number | null;
}

export function isGreedy(params: SamplingParams): boolean {
  return params.temperature === 0 || params.topK === 1;
}

/** @throws {EdgeLLMError} `request`: a setting is outside of what it may be. */
export function checkParams(params: SamplingParams): void {
  const { maxTokens, seed, stop, logitBias, logprobs } = params;
  if (maxTokens !== null) range("max_tokens", maxTokens, 1, 2 ** 31 - 1, true);
  range("temperature", params.temperature, 0, 100);
  range("top_k", params.topK, 0, 2 ** 31 - 1, true);
  range("top_p", params.topP, Number.MIN_VALUE, 1);
  range("min_p", params.minP, 0, 1);
  range("repetition_penalty", params.repetitionPenalty, Number.MIN_VALUE, 10);
  range("presence_penalty", params.presencePenalty, -2, 2);
  range("frequency_penalty", params.frequencyPenalty, -2, 2);
  if (seed !== null) range("seed", seed, 0, Number.MAX_SAFE_INTEGER, true);
  if (logprobs !== null) range("top_logprobs", logprobs, 0, MAX_LOGPROBS, true);
  if (stop.length > MAX_STOPS) refuse("stop", `${stop.length} texts`, `at most ${MAX_STOPS}`);
  for (const one of stop) {
    if (typeof one !== "string" || one.length === 0 || one.length > MAX_STOP_CHARS) {
      refuse("stop", "an empty or overlong text", `texts of 1 to ${MAX_STOP_CHARS} characters`);
    }
  }
  if (logitBias.size > 1024) refuse("logit_bias", `${logitBias.size} tokens`, "at most 1,024");
  for (const [token, bias] of logitBias) {
    range("a token of logit_bias", token, 0, 2 ** 31 - 1, true);
    range("logit_bias", bias, -100, 100);
  }
}

function range(name: string, value: number, least: number, most: number, whole = false): void {
  if (
    typeof value !== "number" ||
    !(value >= least && value <= most) ||
    (whole && !Number.isInteger(value))
  ) {
    const kind = whole ? "whole numbers" : "numbers";
    refuse(name, String(value), `${kind} from ${least === Number.MIN_VALUE ? "above 0" : least} to ${most}`);
  }
}

function refuse(name: string, value: string, allowed: string): never {
  throw new EdgeLLMError("request", `${name} is ${value.slice(0, 80)}; allowed are ${allowed}`);
}
