/** Reading a real bundle, and its texts against the tokenizer and templates of Python. Needs no browser. */

import { readFileSync } from "node:fs";
import path from "node:path";
import { describe, expect, inject, test } from "vitest";
import { decodeManifest } from "../../src/bundle/manifest.ts";
import { pathProblem, pathsProblem } from "../../src/bundle/paths.ts";
import { decodeWeights, weightsOf } from "../../src/bundle/weights.ts";
import { decodePlan } from "../../src/plan/decode.ts";
import { ChatTemplate } from "../../src/text/template.ts";
import { Tokenizer } from "../../src/text/tokenizer.ts";

const { bundle, answers, tokenized, tokenizers } = inject("reference");

function read(name: string): Uint8Array<ArrayBuffer> {
  return Uint8Array.from(readFileSync(path.join(bundle, name)));
}

describe("the manifest", () => {
  const data = read("edgellm.json");

  test("is read", async () => {
    const manifest = await decodeManifest(data, "edgellm.json");
    expect(manifest).toMatchObject({ backend: "tvm", context: 1024, model: { family: "llama" } });
    expect(manifest.files.map((one) => one.path)).toContain("tvm/wgsl-fp32/plan.json");
  });

  test("is refused if any byte is another one", async () => {
    for (let at = 0; at < data.length; at += 211) {
      const changed = data.slice();
      changed[at] = (changed[at] ?? 0) ^ 1;
      await expect(decodeManifest(changed, "edgellm.json"), `byte ${at}`).rejects.toMatchObject({
        code: "bundle",
      });
    }
    await expect(decodeManifest(data.slice(0, -1), "edgellm.json")).rejects.toThrow("damaged");
  });

  test("of a newer format names the version that reads it", async () => {
    const text = new TextDecoder()
      .decode(data)
      .replace('"format": 1', '"format": 2')
      .replace('"edgellm": "', '"edgellm": "9.');
    await expect(decodeManifest(new TextEncoder().encode(text), "edgellm.json")).rejects.toThrow(
      "edgellm 9.",
    );
  });
});

test.each([
  "../x",
  "/x",
  "a/../b",
  "a//b",
  ".hidden",
  "a/.b",
  "a.",
  "c:x",
  "a\\b",
  "con",
  "nul.txt",
  "a b",
  "edgellm.json",
  "",
])("the path %j may not stand in a manifest", (one) => expect(pathProblem(one)).toBeTypeOf("string"));

test("paths must be those of different files", () => {
  expect(pathsProblem(["a/b", "a/c.txt", "d"])).toBeNull();
  expect(pathsProblem(["a", "A"])).toContain("twice");
  expect(pathsProblem(["a/b", "a"])).toContain("folder");
});

describe("weights", () => {
  const plan = decodePlan(read("tvm/wgsl-fp32/plan.json"), "plan.json");
  const entries = decodeWeights(read("tvm/weights.json"), "weights.json");

  test("are where the table says", () => {
    const shards = weightsOf(plan, entries, () => 1 << 30, "weights.json");
    expect(
      [...shards.values()]
        .flat()
        .map((one) => one.name)
        .sort(),
    ).toEqual([...plan.weights.keys()].sort());
  });

  test("that are missing, of another size, or outside of their shard are refused", () => {
    expect(() => weightsOf(plan, entries.slice(1), () => 1 << 30, "weights.json")).toThrow("there is no");
    expect(() => weightsOf(plan, entries, () => 1000, "weights.json")).toThrow("outside");
    expect(() => weightsOf(plan, entries, () => undefined, "weights.json")).toThrow("outside");
    const [first, ...rest] = entries;
    const larger = first ? [{ ...first, bytes: first.bytes + 16 }, ...rest] : [];
    expect(() => weightsOf(plan, larger, () => 1 << 30, "weights.json")).toThrow("takes");
  });
});

describe("texts", async () => {
  const manifest = await decodeManifest(read("edgellm.json"), "edgellm.json");
  const tokenizer = new Tokenizer(new TextDecoder().decode(read("tokenizer.json")), manifest.tokenizer);

  test.each(tokenized)("$text has the tokens that Python gives it", ({ text, ids, decoded }) => {
    expect(tokenizer.encode(text, false)).toEqual(ids);
    expect(tokenizer.decode(ids)).toBe(decoded);
  });

  test("prompts are those of Python", () => {
    const template = new ChatTemplate(
      new TextDecoder().decode(read("chat_template.jinja")),
      manifest.tokenizer,
    );
    for (const { prompt, promptIds } of answers) {
      const text = template.render([{ role: "user", content: prompt }]);
      expect(tokenizer.encode(text, false)).toEqual(promptIds);
    }
  });

  test("what is no conversation is refused", () => {
    const template = new ChatTemplate("{{ raise_exception('no ' + messages[0].role) }}", manifest.tokenizer);
    expect(() => template.render([{ role: "user", content: "x" }])).toThrow("no user");
    for (const bad of [[], [{ role: "user" }], [null], "hi"]) {
      expect(() => template.render(bad as never)).toThrow("messages");
    }
    expect(() => new ChatTemplate("{% if %}", manifest.tokenizer)).toThrow("template");
  });
});

describe.each(tokenizers)("the kind of tokenizer $kind", ({ json, cases }) => {
  test("gives the tokens and texts that Python gives", () => {
    const facts = {
      size: 0,
      eos_ids: [],
      bos_id: null,
      pad_id: null,
      bos_token: "",
      eos_token: "",
      unk_token: "",
      prefix_ids: [],
      suffix_ids: [],
    };
    const tokenizer = new Tokenizer(json, facts);
    for (const { text, ids, decoded } of cases) {
      expect(tokenizer.encode(text, false), JSON.stringify(text)).toEqual(ids);
      expect(tokenizer.decode(ids), JSON.stringify(text)).toBe(decoded);
    }
  });
});
