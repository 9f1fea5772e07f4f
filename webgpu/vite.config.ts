import { resolve } from "node:path";
import { defineConfig, type Plugin } from "vite";

/** Libraries that read tokenizers; all else is the runtime, whose size is watched (scripts/size.js). */
const TOKENIZER = /node_modules\/@huggingface\/tokenizers\//;
const VITES_WORKER =
  /new URL\(\s*\/\* @vite-ignore \*\/\s*new URL\("worker\.js", import\.meta\.url\)\.href,\s*"" \+ import\.meta\.url\s*\)/g;

/** Writes the worker's address as all bundlers know it, so that they take the worker along. */
function plainWorker(): Plugin {
  return {
    name: "plain-worker",
    enforce: "post",
    generateBundle(_, bundle) {
      const index = bundle["index.js"];
      if (index?.type !== "chunk") throw new Error("there is no index.js");
      if (index.code.match(VITES_WORKER)?.length !== 1)
        throw new Error("Vite writes the worker's address in a new way");
      index.code = index.code.replace(VITES_WORKER, 'new URL("./worker.js", import.meta.url)');
    },
  };
}

export default defineConfig({
  base: "./",
  plugins: [plainWorker()],
  build: {
    target: "es2022",
    sourcemap: true,
    lib: { entry: resolve(import.meta.dirname, "src/index.ts"), formats: ["es"], fileName: "index" },
  },
  worker: {
    format: "es",
    rolldownOptions: {
      output: {
        entryFileNames: "worker.js",
        chunkFileNames: "[name].js",
        codeSplitting: { groups: [{ name: "tokenizer", test: TOKENIZER }] },
      },
    },
  },
});
