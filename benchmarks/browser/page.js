// One engine in a page of its own. `bench` is called by drive.mjs; all times are milliseconds of the page's clock.

let complete = null; // (prompt, tokens) => { prompt, tokens, text, own }

async function openEdgellm({ bundle, options }) {
  const { createEngine } = await import("/edgellm/index.js");
  const engine = await createEngine({ bundle, maxBatch: 1, store: false, ...options });
  complete = async (prompt, most) => {
    const { choices, usage } = await engine.completions.create({ prompt, max_tokens: most, temperature: 0 });
    return { prompt: usage.prompt_tokens, tokens: usage.completion_tokens, text: choices[0].text, own: null };
  };
  return engine.info;
}

async function openWllama({ gguf, bos, load, device }) {
  const { Wllama } = await import("/wllama/index.min.js");
  const said = [];
  const logger = Object.fromEntries(
    ["debug", "log", "warn", "error"].map((kind) => [kind, (...words) => said.push(words.join(" ").trim())]),
  );
  const wllama = new Wllama({ default: "/wllama/wasm/wllama.wasm" }, { logger });
  const file = await (await fetch(gguf)).blob();
  try {
    await wllama.loadModel([file], load);
  } catch (error) {
    throw new Error(`${error.message}; it said last: ${said.slice(-8).join(" | ")}`);
  }
  // Where its WebGPU backend takes no device it computes on the processor, and says nothing about it.
  const offloaded = said.map((line) => /offloaded (\d+)\/\d+ layers/.exec(line)?.[1]).find(Boolean);
  if (device && !Number(offloaded)) {
    const { fp16 } = (await adapter()) ?? {};
    throw new Error(`its WebGPU backend took no device${fp16 ? "" : ", as it does without shader-f16"}`);
  }
  complete = async (prompt, most) => {
    const { choices, timings } = await wllama.createCompletion({
      prompt: bos + prompt,
      max_tokens: most,
      temperature: 0,
      cache_prompt: false,
    });
    const own = { prefill_ms: timings.prompt_ms, decode_ms: timings.predicted_ms };
    return { prompt: timings.prompt_n, tokens: timings.predicted_n, text: choices[0].text, own };
  };
  return {
    llamacpp: Wllama.getLibllamaVersion(),
    threads: wllama.getNumThreads(),
    multithread: wllama.isMultithread(),
    context: wllama.getLoadedContextInfo().n_ctx,
    layersOnDevice: Number(offloaded ?? 0),
  };
}

async function adapter() {
  const found = await navigator.gpu?.requestAdapter({ powerPreference: "high-performance" });
  if (!found) return null;
  const { vendor, architecture, device, description, isFallbackAdapter: software } = found.info;
  return { vendor, architecture, device, description, software, fp16: found.features.has("shader-f16") };
}

// A run of `most` tokens; the time from asking to the whole answer.
async function run({ prompt, most }) {
  const from = performance.now();
  const answer = await complete(prompt, most);
  return { ms: performance.now() - from, ...answer };
}

window.bench = { openEdgellm, openWllama, adapter, run };
