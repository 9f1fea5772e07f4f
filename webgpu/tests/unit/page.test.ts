import { describe, expect, test } from "vitest";
import { parts, Sentences } from "../../page/src/render.ts";

describe("a model's words", () => {
  test("are text, code and fences", () => {
    expect(parts("Use `ls`:\n\n```sh\nls -l\n\nls `x`\n```\nDone.")).toEqual([
      { kind: "text", text: "Use " },
      { kind: "code", text: "ls" },
      { kind: "text", text: ":\n" },
      { kind: "fence", language: "sh", text: "ls -l\n\nls `x`" },
      { kind: "text", text: "Done." },
    ]);
  });

  test("may end inside of a fence, and hold another kind of it", () => {
    expect(parts("````md\n```\nx\n```")).toEqual([{ kind: "fence", language: "md", text: "```\nx\n```" }]);
    expect(parts("~~~\na")).toEqual([{ kind: "fence", language: "", text: "a" }]);
  });

  test("that begin like a fence and are none stay as they are", () => {
    expect(parts("a ``` b")).toEqual([{ kind: "text", text: "a ``` b" }]);
    expect(parts("")).toEqual([]);
  });

  test("lose nothing on the way, wherever the text ends", () => {
    const text = "One `two` three\n```\nlet x = `y`;\n```\nfour <b>five</b>";
    for (let end = 0; end <= text.length; end += 1) {
      const found = parts(text.slice(0, end)).map((one) => one.text);
      const marks = /`|\n/g;
      expect(found.join("").replace(marks, "")).toBe(text.slice(0, end).replace(marks, ""));
    }
  });
});

test("screen readers get whole sentences, each once", () => {
  const sentences = new Sentences();
  expect(sentences.next("It is 3.5")).toBe("");
  expect(sentences.next("It is 3.5. And")).toBe("It is 3.5.");
  expect(sentences.next("It is 3.5. And more! So\nwh")).toBe("And more! So");
  expect(sentences.next("It is 3.5. And more! So\nwhat", true)).toBe("what");
});
