/**
 * Blocks of the key/value cache: reference counts, and sharing of equal prefixes down to the token.
 *
 * A full block is *sealed*: it becomes a node of a prefix tree, below the node of the block before it. Another
 * sequence that begins with the same tokens takes the same blocks, and one that computed an equal block at
 * the same time gives its own back. When a sequence lets go of its last block, which is seldom full, that
 * block is *shelved*: a leaf of the tree. Who begins like a leaf, or like a part of a full block, continues in
 * a block of its own: the leaf itself where nothing of it would be lost, else a copy. So a block is written by
 * one holder only, and never once it is sealed.
 *
 * The tree holds the tokens themselves, so equal keys mean equal contents. Blocks that nobody holds stay in it
 * until their memory is needed; the least recently used go first.
 */

import { must } from "../units.ts";

/** Node of the empty prefix. */
export const ROOT = 0;

type Tokens = readonly number[];

/** A block's place in the tree: below `parent`; `node` is its own, null for a leaf. */
interface Entry {
  readonly parent: number;
  readonly tokens: Tokens;
  readonly node: number | null;
}

interface Child {
  readonly tokens: Tokens;
  readonly block: number;
}

/** What is cached of a sequence. */
export interface Prefix {
  /** Whole blocks, in order, each with a new reference. */
  readonly blocks: number[];
  /** Node of the last of them. */
  readonly node: number;
  /** A block whose first `alike` tokens come next; no reference is taken. See `BlockPool.follow`. */
  readonly source: number;
  readonly alike: number;
}

export class BlockPool {
  readonly numBlocks: number;
  readonly blockSize: number;
  readonly #free: number[];
  readonly #refs: Int32Array;
  /** Blocks of the tree that nobody holds, least recently used first. */
  readonly #idle = new Set<number>();
  readonly #entries = new Map<number, Entry>();
  /** What comes next after a node, sorted; none of these is the beginning of another. */
  readonly #children = new Map<number, Child[]>();
  #nextNode = ROOT + 1;

  constructor(numBlocks: number, blockSize: number) {
    this.numBlocks = numBlocks;
    this.blockSize = blockSize;
    this.#free = Array.from({ length: numBlocks }, (_, index) => numBlocks - 1 - index);
    this.#refs = new Int32Array(numBlocks);
  }

  /** Blocks that can be allocated now, idle ones included. */
  get available(): number {
    return this.#free.length + this.#idle.size;
  }

  /** Blocks held by at least one sequence. */
  get inUse(): number {
    return this.numBlocks - this.available;
  }

  /** A block with one reference; null if all are in use. */
  allocate(): number | null {
    let block = this.#free.pop();
    if (block === undefined) {
      const [oldest] = this.#idle;
      if (oldest === undefined) return null;
      this.#idle.delete(oldest);
      this.#remove(oldest);
      block = oldest;
    }
    this.#refs[block] = 1;
    return block;
  }

  /** Gives one reference of each block back. Those in the tree stay there, the prefix's head longest. */
  release(blocks: readonly number[]): void {
    for (const block of [...blocks].reverse()) {
      const left = (this.#refs[block] ?? 0) - 1;
      this.#refs[block] = left;
      if (left > 0) continue;
      if (this.#entries.has(block)) this.#idle.add(block);
      else this.#free.push(block);
    }
  }

  /**
   * The longest cached beginning of `tokens`. At least one token is left out, since a step must compute
   * something to give logits.
   */
  match(tokens: Tokens): Prefix {
    const blocks: number[] = [];
    const limit = tokens.length - 1;
    let node = ROOT;
    for (let start = 0; ; start += this.blockSize) {
      const piece = tokens.slice(start, Math.min(start + this.blockSize, limit));
      const { block, alike } = this.#nearest(node, piece);
      if (alike < this.blockSize) return { blocks, node, source: block, alike };
      this.#hold(block);
      blocks.push(block);
      node = this.#node(block);
    }
  }

  /**
   * A block of one's own for the tokens after `prefix.blocks`, and the block to copy it from first. They are
   * the same where nothing needs copying. Null if nothing comes next, or all are in use.
   */
  follow(prefix: Prefix): { block: number; source: number } | null {
    const { source, alike } = prefix;
    if (alike === 0) return null;
    if (this.#refs[source] === 0) {
      const length = must(this.#entries.get(source), "an entry").tokens.length;
      this.#idle.delete(source);
      if (length === alike && length < this.blockSize) {
        this.#remove(source);
        this.#refs[source] = 1;
        return { block: source, source };
      }
      this.#idle.add(source); // used just now, and not to be evicted for its own copy
    }
    const block = this.allocate();
    return block === null ? null : { block, source };
  }

  /**
   * Makes a full block findable. If an equal one is there already, the caller gets that one instead, and the
   * given one is released.
   */
  seal(block: number, parent: number, tokens: Tokens): { block: number; node: number } {
    const known = this.#nearest(parent, tokens);
    if (known.alike === this.blockSize) {
      this.#hold(known.block);
      this.release([block]);
      return { block: known.block, node: this.#node(known.block) };
    }
    const node = this.#nextNode;
    this.#nextNode += 1;
    this.#insert(block, { parent, tokens, node });
    return { block, node };
  }

  /** Makes the first `tokens` of a block findable, just before its only holder releases it. */
  shelve(block: number, parent: number, tokens: Tokens): void {
    if (this.#nearest(parent, tokens).alike < tokens.length)
      this.#insert(block, { parent, tokens, node: null });
  }

  /** Empties the prefix tree: after a failed step the contents are not to be trusted. */
  forget(): void {
    this.#free.push(...this.#idle);
    this.#idle.clear();
    this.#entries.clear();
    this.#children.clear();
  }

  #hold(block: number): void {
    if (this.#refs[block] === 0) this.#idle.delete(block);
    this.#refs[block] = (this.#refs[block] ?? 0) + 1;
  }

  /** Of a full block. */
  #node(block: number): number {
    return must(this.#entries.get(block)?.node, "the node of a full block");
  }

  /** The block below `parent` that begins most like `piece`, and how many tokens they share. */
  #nearest(parent: number, piece: Tokens): { block: number; alike: number } {
    const children = this.#children.get(parent) ?? [];
    let found = { block: -1, alike: 0 };
    // Among sorted lists, the ones that share most with another stand next to its place.
    const at = placeOf(children, piece);
    for (const { tokens, block } of children.slice(Math.max(at - 1, 0), at + 1)) {
      const alike = sharedLength(tokens, piece);
      if (alike > found.alike) found = { block, alike };
    }
    return found;
  }

  #insert(block: number, entry: Entry): void {
    let children = this.#children.get(entry.parent);
    if (children === undefined) {
      children = [];
      this.#children.set(entry.parent, children);
    }
    let at = placeOf(children, entry.tokens);
    const before = children[at - 1];
    if (before && sharedLength(before.tokens, entry.tokens) === before.tokens.length) {
      // A leaf (nobody holds one) that the new block continues: not needed any more.
      at -= 1;
      children.splice(at, 1);
      this.#entries.delete(before.block);
      this.#idle.delete(before.block);
      this.#free.push(before.block);
    }
    children.splice(at, 0, { tokens: entry.tokens, block });
    this.#entries.set(block, entry);
  }

  #remove(block: number): void {
    const entry = must(this.#entries.get(block), "an entry");
    this.#entries.delete(block);
    const children = must(this.#children.get(entry.parent), "the children of a node");
    children.splice(placeOf(children, entry.tokens), 1);
    if (children.length === 0) this.#children.delete(entry.parent);
  }
}

/** Where `tokens` stand or would stand among sorted children. */
function placeOf(children: readonly Child[], tokens: Tokens): number {
  let low = 0;
  let high = children.length;
  while (low < high) {
    const middle = (low + high) >>> 1;
    if (compare(must(children[middle], "a child").tokens, tokens) < 0) low = middle + 1;
    else high = middle;
  }
  return low;
}

/** Order of lists: by the first token that differs; a beginning comes before what continues it. */
function compare(left: Tokens, right: Tokens): number {
  const same = sharedLength(left, right);
  return (left[same] ?? -1) - (right[same] ?? -1);
}

/** Length of the common beginning. */
function sharedLength(left: Tokens, right: Tokens): number {
  const most = Math.min(left.length, right.length);
  let same = 0;
  while (same < most && left[same] === right[same]) same += 1;
  return same;
}
