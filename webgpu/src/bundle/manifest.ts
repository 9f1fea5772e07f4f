/** `edgellm.json`, the manifest of a bundle: types, and reading with every check (docs/bundle.md). */

import { EdgeLLMError } from "../errors.ts";
import * as json from "../json.ts";
import { sha256 } from "./hash.ts";
import { pathsProblem } from "./paths.ts";

export const MANIFEST_NAME = "edgellm.json";
export const TOKENIZER_NAME = "tokenizer.json";
export const MAX_MANIFEST_BYTES = 16 << 20;
const FORMAT = 1;
const MAX_FILES = 10_000;

const SHA256 = /[0-9a-f]{64}/;
const NAME = /[a-z0-9][a-z0-9._-]{0,63}/;
const path = json.text(undefined, 256);
const words = json.text(undefined, 4096);
const tokenId = json.integer(0, 2 ** 31 - 1);
const tokenIds = json.withDefault(json.list(tokenId, 0, 4096), []);
const optionalId = json.withDefault(json.nullable(tokenId), null);
const optionalWords = json.withDefault(json.nullable(words), null);

const file = json.object({ path, bytes: json.integer(), sha256: json.text(SHA256) });
export type FileEntry = json.Read<typeof file>;

const tokenizer = json.object({
  size: json.integer(),
  eos_ids: json.list(tokenId, 0, 4096),
  bos_id: optionalId,
  pad_id: optionalId,
  bos_token: json.withDefault(words, ""),
  eos_token: json.withDefault(words, ""),
  unk_token: json.withDefault(words, ""),
  prefix_ids: tokenIds,
  suffix_ids: tokenIds,
});
export type TokenizerFacts = json.Read<typeof tokenizer>;

const sampling = json.object({
  temperature: json.withDefault(json.number(0, 100), 1),
  top_k: json.withDefault(json.integer(0, 2 ** 31 - 1), 0),
  top_p: json.withDefault(json.number(Number.MIN_VALUE, 1), 1),
  min_p: json.withDefault(json.number(0, 1), 0),
  repetition_penalty: json.withDefault(json.number(Number.MIN_VALUE, 10), 1),
});
export type SamplingDefaults = json.Read<typeof sampling>;

const manifest = json.object({
  format: json.oneOf(FORMAT),
  edgellm: words,
  target: json.text(NAME),
  backend: json.text(NAME),
  backend_version: words,
  quant: json.text(NAME),
  batching: json.oneOf("step", "request"),
  context: json.integer(1),
  // The architecture is compiled into the programs; of its many fields only these are asked for here.
  model: json.object({ family: words, vocab_size: json.integer(1) }, "ignored"),
  tokenizer,
  chat_template: json.nullable(path),
  sampling,
  source: json.object({
    name: words,
    revision: optionalWords,
    license: optionalWords,
    adapters: json.withDefault(json.list(words, 0, 1024), []),
  }),
  memory: json.object({
    weight_bytes: json.integer(),
    kv_bytes_per_token: json.integer(),
    runtime_bytes: json.integer(),
  }),
  files: json.list(file, 1, MAX_FILES),
  checksum: json.text(SHA256),
});
export type Manifest = json.Read<typeof manifest>;

const head = json.object(
  { format: json.integer(1), edgellm: json.withDefault(words, "a newer version") },
  "ignored",
);

/** What the file ends with after the digits of its checksum. */
const TAIL = '"\n}\n';
const DIGITS = 64;

/**
 * The manifest in `data`, checked: format, types, paths, checksum.
 *
 * @param where what to call the file in an error.
 * @throws {EdgeLLMError} `bundle`: says what is wrong.
 */
export async function decodeManifest(data: Uint8Array<ArrayBuffer>, where: string): Promise<Manifest> {
  if (data.length > MAX_MANIFEST_BYTES) {
    throw new EdgeLLMError(
      "bundle",
      `${where} is larger than ${MAX_MANIFEST_BYTES >> 20} MiB: it is no manifest`,
    );
  }
  let problem: string | null;
  try {
    const { format, edgellm } = json.decodeJson(data, head);
    if (format > FORMAT) {
      throw new EdgeLLMError(
        "bundle",
        `${where} has bundle format ${format} and this edgellm reads ${FORMAT}: ` +
          `it takes the package of edgellm ${edgellm.slice(0, 40)} or later`,
      );
    }
    const found = json.decodeJson(data, manifest);
    problem = filesProblem(found) ?? (await checksumProblem(data, found.checksum));
    if (problem === null) return found;
  } catch (error) {
    if (!(error instanceof json.MalformedError)) throw error;
    problem = error.message;
  }
  throw new EdgeLLMError("bundle", `${where} is damaged (${problem}): build the bundle again`);
}

function filesProblem({ files, chat_template }: Manifest): string | null {
  const paths = files.map((one) => one.path);
  const problem = pathsProblem(paths);
  if (problem !== null) return problem;
  if (paths.some((one, index) => index > 0 && one <= (paths[index - 1] ?? "")))
    return "its files are not sorted by path";
  const needed = [TOKENIZER_NAME, ...(chat_template === null ? [] : [chat_template])];
  const missing = needed.find((one) => !paths.includes(one));
  return missing === undefined ? null : `its files do not include ${missing}`;
}

/** The manifest is hashed with the digits of its checksum as zeros; they stand just before the end. */
async function checksumProblem(data: Uint8Array<ArrayBuffer>, checksum: string): Promise<string | null> {
  const end = data.length - TAIL.length;
  const text = new TextDecoder().decode(data.subarray(Math.max(0, end - DIGITS)));
  if (text !== checksum + TAIL) return "it does not end with its checksum";
  const zeroed = data.slice();
  zeroed.fill("0".charCodeAt(0), end - DIGITS, end);
  return (await sha256(zeroed)) === checksum ? null : "its checksum does not match";
}
