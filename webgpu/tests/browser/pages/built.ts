/** The package as it is built, imported as a page without a bundler would. */

const ADDRESS = "/built/index.js";

export async function answer(prompt: string): Promise<string> {
  const { createEngine } = (await import(
    /* @vite-ignore */ ADDRESS
  )) as typeof import("../../../src/index.ts");
  const engine = await createEngine({ bundle: "/bundle/", stepTokens: 4, store: false });
  const messages = [{ role: "user", content: prompt }];
  const chunks = await engine.chat.completions.create({
    messages,
    temperature: 0,
    max_tokens: 8,
    stream: true,
  });
  let text = "";
  for await (const chunk of chunks) text += chunk.choices[0]?.delta.content ?? "";
  engine.close();
  return text;
}

Object.assign(window, { edgellmTests: { answer } });
