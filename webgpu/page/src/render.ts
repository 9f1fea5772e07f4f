/** A model's words as nodes: plain text, `code`, and fenced blocks. Nothing else is recognised. */

import { make } from "./dom.ts";

const FENCE = /^[ \t]*(`{3,}|~{3,})[ \t]*([\w+#.-]{0,30})[^\n`]*$/;

/** One piece of an answer. */
export type Part =
  | { readonly kind: "text"; readonly text: string }
  | { readonly kind: "code"; readonly text: string }
  | { readonly kind: "fence"; readonly text: string; readonly language: string };

/** Takes an answer apart; one that is still being written may end inside a fence. */
export function parts(answer: string): Part[] {
  const found: Part[] = [];
  let lines: string[] = [];
  let fence: { mark: string; language: string } | null = null;
  const close = (): void => {
    const text = lines.join("\n");
    if (fence) found.push({ kind: "fence", text, language: fence.language });
    else if (text) found.push(...inline(text));
    lines = [];
  };
  for (const line of answer.split("\n")) {
    const mark = FENCE.exec(line);
    if (!fence && mark) {
      close();
      fence = { mark: mark[1] ?? "", language: mark[2] ?? "" };
    } else if (fence && line.trim().startsWith(fence.mark) && !line.trim().slice(fence.mark.length)) {
      close();
      fence = null;
    } else lines.push(line);
  }
  if (fence || lines.length) close();
  return found;
}

function inline(text: string): Part[] {
  return text
    .split(/`([^`\n]+)`/)
    .map((piece, index): Part => ({ kind: index % 2 ? "code" : "text", text: piece }))
    .filter((piece) => piece.text);
}

/** Puts an answer into `node`, which keeps the nodes of what has not changed. */
export function fill(node: HTMLElement, answer: string): void {
  const wanted = parts(answer);
  const old = [...node.childNodes];
  wanted.forEach((part, index) => {
    const at = old[index];
    if (at && sameKind(at, part)) {
      const inner = at instanceof HTMLElement ? (at.querySelector("code") ?? at) : at;
      if (inner.textContent !== part.text) inner.textContent = part.text;
    } else if (at) at.replaceWith(nodeOf(part));
    else node.append(nodeOf(part));
  });
  for (const rest of old.slice(wanted.length)) rest.remove();
}

function sameKind(node: ChildNode, part: Part): boolean {
  if (part.kind === "text") return node instanceof Text;
  if (!(node instanceof HTMLElement)) return false;
  return part.kind === "code"
    ? node.tagName === "CODE"
    : node.className === "fence" && node.dataset.language === part.language;
}

function nodeOf(part: Part): Node {
  if (part.kind === "text") return document.createTextNode(part.text);
  if (part.kind === "code") return make("code", "", part.text);
  const block = make("div", "fence");
  block.dataset.language = part.language;
  if (part.language) block.append(make("span", "language", part.language));
  const pre = make("pre");
  pre.tabIndex = 0; // long lines scroll, by keyboard too
  pre.append(make("code", "", part.text));
  block.append(pre);
  return block;
}

/** Whole sentences and lines of a growing text, for a screen reader that reads them as they come. */
export class Sentences {
  #said = 0;

  /** What has come to an end since the last call; with `end` all that is left. */
  next(text: string, end = false): string {
    const rest = text.slice(this.#said);
    let upTo = rest.length;
    if (!end) {
      upTo = 0;
      for (const found of rest.matchAll(/[.!?…。！？](?=\s)|\n/g)) upTo = found.index + 1;
    }
    this.#said += upTo;
    return rest.slice(0, upTo).trim();
  }
}
