/** Requests in OpenAI's style, and the sampling settings they mean. */

import type { SamplingDefaults } from "../bundle/manifest.ts";
import { EdgeLLMError } from "../errors.ts";
import type { Message } from "../text/template.ts";
import { refuseUnsupported } from "./fields.ts";
import { checkParams, type SamplingParams } from "./params.ts";

/** What chooses the tokens and ends an answer; what is left out is the bundle's default. */
export interface GenerationSettings {
  readonly max_tokens?: number | null | undefined;
  /** The newer name of `max_tokens`, which it goes before. */
  readonly max_completion_tokens?: number | null | undefined;
  readonly temperature?: number | null | undefined;
  readonly top_p?: number | null | undefined;
  readonly top_k?: number | null | undefined;
  readonly min_p?: number | null | undefined;
  readonly repetition_penalty?: number | null | undefined;
  readonly presence_penalty?: number | null | undefined;
  readonly frequency_penalty?: number | null | undefined;
  /** Token ids to values added to their logits. */
  readonly logit_bias?: Readonly<Record<string, number>> | null | undefined;
  readonly seed?: number | null | undefined;
  readonly stop?: string | readonly string[] | null | undefined;
  readonly logprobs?: boolean | null | undefined;
  readonly top_logprobs?: number | null | undefined;
}

/** A request as it travels to the worker: a conversation, or a plain text to go on with. */
export type RequestBody = GenerationSettings &
  ({ readonly messages: readonly Message[] } | { readonly prompt: string });

/** @throws {EdgeLLMError} `request`: a setting is outside of what it may be, or asks for what is not there. */
export function samplingParams(body: GenerationSettings, defaults: SamplingDefaults): SamplingParams {
  refuseUnsupported(body);
  const params: SamplingParams = {
    maxTokens: body.max_completion_tokens ?? body.max_tokens ?? null,
    temperature: body.temperature ?? defaults.temperature,
    topK: body.top_k ?? defaults.top_k,
    topP: body.top_p ?? defaults.top_p,
    minP: body.min_p ?? defaults.min_p,
    repetitionPenalty: body.repetition_penalty ?? defaults.repetition_penalty,
    presencePenalty: body.presence_penalty ?? 0,
    frequencyPenalty: body.frequency_penalty ?? 0,
    logitBias: new Map(Object.entries(body.logit_bias ?? {}).map(([token, bias]) => [Number(token), bias])),
    seed: body.seed ?? null,
    stop: typeof body.stop === "string" ? [body.stop] : (body.stop ?? []),
    logprobs: body.logprobs ? (body.top_logprobs ?? 0) : null,
  };
  if (!Array.isArray(params.stop))
    throw new EdgeLLMError("request", "stop must be a text or a list of texts");
  checkParams(params);
  return params;
}
