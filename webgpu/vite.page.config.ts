import { resolve } from "node:path";
import { defineConfig } from "vite";

const PAGE = resolve(import.meta.dirname, "page");

/** The chat page with the runtime in it; `edgellm package web` fills in the marks and adds a bundle. */
export default defineConfig({
  root: PAGE,
  base: "./",
  build: {
    target: "es2022",
    outDir: resolve(import.meta.dirname, "dist-page"),
    emptyOutDir: true,
    // Everything is a file of its own: the page's policy allows no data: addresses.
    assetsInlineLimit: 0,
    modulePreload: { polyfill: false },
    rolldownOptions: {
      input: { index: resolve(PAGE, "index.html"), sw: resolve(PAGE, "src/sw.ts") },
      output: {
        entryFileNames: ({ name }) => (name === "sw" ? "sw.js" : "assets/[name]-[hash].js"),
      },
    },
  },
  worker: { format: "es" },
});
