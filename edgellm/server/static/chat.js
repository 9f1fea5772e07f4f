// The chat page. What the model says is only ever put into text nodes, never parsed as markup.

const $ = (id) => document.getElementById(id);
const STORE = "edgellm.chat";
const NEAR_END = 80; // pixels from the end within which the view follows the answer

const saved = load();
const messages = saved.messages; // {role, content, note?, error?}; busy: under way, fresh: not yet shown
const settings = saved.settings;
let facts = { model: null };
let answering = null; // the AbortController of the answer under way

// ---- what the browser keeps

function load() {
  const settings = { system: "", temperature: null, maxTokens: null, theme: "auto" };
  try {
    const stored = JSON.parse(localStorage.getItem(STORE)) ?? {};
    const good = (stored.messages ?? []).filter(
      (m) => (m.role === "user" || m.role === "assistant") && typeof m.content === "string",
    );
    return { messages: good.map(kept), settings: { ...settings, ...stored.settings } };
  } catch {
    return { messages: [], settings };
  }
}

function kept({ role, content, note, error }) {
  return { role, content, note, error };
}

function save() {
  try {
    localStorage.setItem(STORE, JSON.stringify({ messages: messages.map(kept), settings }));
  } catch {
    // Private windows and full stores: the conversation lives as long as the page.
  }
}

function apiKey() {
  try {
    return sessionStorage.getItem("edgellm.key") ?? "";
  } catch {
    return $("key").value;
  }
}

function keepApiKey(key) {
  try {
    sessionStorage.setItem("edgellm.key", key);
  } catch {
    // the field itself keeps it
  }
}

// ---- the server

function headers() {
  const key = apiKey();
  return { "Content-Type": "application/json", ...(key && { Authorization: `Bearer ${key}` }) };
}

async function connect() {
  try {
    const health = await fetch("/health");
    facts = await health.json();
    $("model").textContent = facts.model;
    document.title = facts.model;
    $("prompt").placeholder = `Message ${facts.model}`;
    $("facts").textContent = `${facts.context.toLocaleString("en")} tokens of context`;
    const list = await fetch("/v1/models", { headers: headers() });
    if (list.status === 401) askForKey("This server asks for an API key.");
  } catch {
    $("facts").textContent = "the server does not answer";
  }
}

class ServerError extends Error {
  constructor(status, error) {
    super(error?.message ?? `The server answered with status ${status}.`);
    this.status = status;
    this.code = error?.code;
  }
}

// Yields the JSON objects of a stream of server-sent events.
async function* events(response) {
  const reader = response.body.pipeThrough(new TextDecoderStream()).getReader();
  let rest = "";
  while (true) {
    const { value, done } = await reader.read();
    if (done) return;
    const parts = (rest + value).split("\n\n");
    rest = parts.pop();
    for (const part of parts) {
      if (!part.startsWith("data: ")) continue;
      const data = part.slice(6);
      if (data === "[DONE]") return;
      const event = JSON.parse(data);
      if (event.error) throw new ServerError(response.status, event.error);
      yield event;
    }
  }
}

async function ask(history, signal, onText) {
  const turns = history.filter((m) => m.content).map(({ role, content }) => ({ role, content }));
  if (settings.system.trim()) turns.unshift({ role: "system", content: settings.system });
  const asked = performance.now();
  const response = await fetch("/v1/chat/completions", {
    method: "POST",
    headers: headers(),
    signal,
    body: JSON.stringify({
      messages: turns,
      stream: true,
      stream_options: { include_usage: true },
      ...(settings.temperature !== null && { temperature: settings.temperature }),
      ...(settings.maxTokens !== null && { max_tokens: settings.maxTokens }),
    }),
  });
  if (!response.ok) {
    const body = await response.json().catch(() => null);
    throw new ServerError(response.status, body?.error);
  }
  const seen = { tokens: 0, first: null, last: null, reason: null, asked };
  onText("", seen);
  for await (const event of events(response)) {
    const choice = event.choices[0];
    if (choice?.delta?.content) {
      seen.last = performance.now();
      seen.first ??= seen.last;
      seen.tokens += 1;
      onText(choice.delta.content, seen);
    }
    if (choice?.finish_reason) seen.reason = choice.finish_reason;
    if (event.usage) seen.tokens = event.usage.completion_tokens;
  }
  return seen;
}

function describe(seen) {
  if (!seen || seen.first === null) return "";
  const parts = [`${seen.tokens.toLocaleString("en")} ${seen.tokens === 1 ? "token" : "tokens"}`];
  const seconds = (seen.last - seen.first) / 1000;
  if (seen.tokens > 2 && seconds > 0) parts.push(`${((seen.tokens - 1) / seconds).toFixed(1)} tokens/s`);
  parts.push(`first after ${((seen.first - seen.asked) / 1000).toFixed(2)} s`);
  if (seen.reason === "length") parts.push("cut at the length limit");
  if (seen.reason === "stopped") parts.push("stopped by you");
  return parts.join(" · ");
}

// ---- showing

function make(tag, className, text) {
  const node = document.createElement(tag);
  if (className) node.className = className;
  if (text !== undefined) node.textContent = text;
  return node;
}

function icon(path) {
  const svg = document.createElementNS("http://www.w3.org/2000/svg", "svg");
  svg.setAttribute("viewBox", "0 0 20 20");
  svg.setAttribute("aria-hidden", "true");
  const line = document.createElementNS("http://www.w3.org/2000/svg", "path");
  line.setAttribute("d", path);
  svg.append(line);
  return svg;
}

// Code between fences and backticks gets its own elements; the rest stays plain text.
function fill(node, text) {
  const parts = [];
  text.split(/^[ \t]*```/m).forEach((part, index) => {
    if (index % 2) {
      const pre = make("pre");
      pre.tabIndex = 0;
      pre.append(make("code", "", part.replace(/^[^\n]*\n?/, "").replace(/\n$/, "")));
      parts.push(pre);
      return;
    }
    const plain = index ? part.replace(/^\n/, "") : part;
    plain.split(/`([^`\n]+)`/).forEach((piece, i) => {
      if (piece) parts.push(i % 2 ? make("code", "", piece) : document.createTextNode(piece));
    });
  });
  node.replaceChildren(...parts);
}

function turn(message) {
  const item = make("li", `turn ${message.role}`);
  item.classList.toggle("fresh", Boolean(message.fresh));
  delete message.fresh;
  item.append(make("span", "unseen", message.role === "user" ? "You:" : "Answer:"));
  const text = make("div", "text");
  if (message.role === "user") {
    text.textContent = message.content;
    item.append(text);
    return item;
  }
  const mark = make("img");
  mark.src = "/static/icon.svg";
  mark.alt = "";
  const body = make("div", "body");
  fill(text, message.content);
  body.append(text);
  if (message.error) body.append(make("p", "notice", message.error));
  if (!message.busy) body.append(under(message));
  item.classList.toggle("busy", Boolean(message.busy));
  item.append(mark, body);
  return item;
}

function under(message) {
  const row = make("div", "under");
  if (message.content) {
    const copy = make("button", "", "Copy");
    copy.type = "button";
    copy.prepend(icon("M7 7V4h9v9h-3M4 7h9v9H4z"));
    copy.addEventListener("click", async () => {
      try {
        await navigator.clipboard.writeText(message.content);
        copy.lastChild.textContent = "Copied";
        say("Copied");
      } catch {
        say("The browser did not allow copying");
      }
    });
    row.append(copy);
  }
  if (message === messages.at(-1)) {
    const again = make("button", "", "Try again");
    again.type = "button";
    again.prepend(icon("M15.5 8A6 6 0 1 0 16 11M16 4v4h-4"));
    again.addEventListener("click", () => {
      messages.pop();
      answer();
    });
    row.append(again);
  }
  if (message.note) row.append(make("span", "", message.note));
  return row;
}

function show() {
  $("welcome").hidden = messages.length > 0;
  $("log").replaceChildren(...messages.map(turn));
}

function atEnd() {
  const view = $("scroll");
  return view.scrollHeight - view.scrollTop - view.clientHeight < NEAR_END;
}

function toEnd() {
  $("scroll").scrollTop = $("scroll").scrollHeight;
}

function say(text) {
  $("status").textContent = text;
}

function setAnswering(controller) {
  answering = controller;
  document.body.classList.toggle("answering", Boolean(controller));
  $("send").setAttribute("aria-label", controller ? "Stop the answer" : "Send");
  offerSend();
}

function offerSend() {
  $("send").disabled = !answering && !$("prompt").value.trim();
}

// ---- answering

async function answer() {
  const controller = new AbortController();
  const message = { role: "assistant", content: "", busy: true, fresh: true };
  const history = [...messages];
  let seen = null;
  let frame = 0;
  messages.push(message);
  setAnswering(controller);
  show();
  toEnd();
  say("Answering");
  const item = $("log").lastElementChild;
  item.setAttribute("aria-busy", "true");
  try {
    seen = await ask(history, controller.signal, (text, soFar) => {
      seen = soFar;
      message.content += text;
      frame ||= requestAnimationFrame(() => {
        frame = 0;
        const follow = atEnd();
        fill(item.querySelector(".text"), message.content);
        if (follow) toEnd();
      });
    });
  } catch (error) {
    if (controller.signal.aborted) {
      if (seen) seen.reason = "stopped";
    } else {
      message.error = explain(error);
      if (error.status === 401) askForKey("The server did not accept the API key.");
    }
  } finally {
    cancelAnimationFrame(frame);
    delete message.busy;
    message.note = describe(seen);
    if (answering === controller) setAnswering(null);
    if (messages.at(-1) === message) {
      const follow = atEnd();
      if (!message.content && controller.signal.aborted) messages.pop();
      show();
      if (follow) toEnd();
      say(message.error ?? `Answer: ${message.content}`);
      save();
    }
  }
}

function explain(error) {
  if (error.code === "context_length_exceeded") {
    return `The conversation no longer fits: ${error.message}. Start a new chat to go on.`;
  }
  if (error.status === 429) return "The server is busy with other requests. Try again in a moment.";
  if (error instanceof ServerError) return error.message;
  return "The connection to the server was lost. Check that it still runs, then try again.";
}

function send() {
  const text = $("prompt").value.trim();
  if (!text || answering) return;
  $("prompt").value = "";
  grow();
  messages.push({ role: "user", content: text, fresh: true });
  save();
  answer();
}

function grow() {
  const field = $("prompt");
  field.rows = 1;
  const line = parseFloat(getComputedStyle(field).lineHeight);
  const padding = field.clientHeight - line;
  field.rows = Math.min(12, Math.max(1, Math.round((field.scrollHeight - padding) / line)));
}

// ---- settings

function askForKey(why) {
  $("key-field").hidden = false;
  $("key-wanted").hidden = false;
  $("key-wanted").textContent = why;
  openSettings();
  $("key").focus();
}

function openSettings() {
  $("key").value = apiKey();
  $("system").value = settings.system;
  $("temperature").value = settings.temperature ?? 1;
  $("max-tokens").value = settings.maxTokens ?? "";
  for (const radio of document.getElementsByName("theme")) radio.checked = radio.value === settings.theme;
  showTemperature();
  if (!$("settings").open) $("settings").showModal();
}

function showTemperature() {
  const value = settings.temperature;
  $("temperature-default").hidden = value === null;
  $("temperature-shown").textContent = value === null ? "model’s default" : value.toFixed(2);
}

function applyTheme() {
  const dark = matchMedia("(prefers-color-scheme: dark)").matches;
  document.documentElement.dataset.theme = settings.theme === "auto" ? (dark ? "dark" : "light") : settings.theme;
}

function closeSettings() {
  settings.system = $("system").value;
  const limit = parseInt($("max-tokens").value, 10);
  settings.maxTokens = limit > 0 ? limit : null;
  keepApiKey($("key").value.trim());
  save();
  if (!$("key-wanted").hidden) {
    $("key-wanted").hidden = true;
    if ($("key").value.trim()) connect();
  }
  $("prompt").focus();
}

// ---- wiring

$("composer").addEventListener("submit", (event) => {
  event.preventDefault();
  if (answering) answering.abort();
  else send();
});
$("prompt").addEventListener("input", () => {
  grow();
  offerSend();
});
$("prompt").addEventListener("keydown", (event) => {
  if (event.key === "Enter" && !event.shiftKey && !event.isComposing) {
    event.preventDefault();
    send();
  }
});
document.addEventListener("keydown", (event) => {
  if (event.key === "Escape" && answering && !$("settings").open) answering.abort();
});
$("new").addEventListener("click", () => {
  answering?.abort();
  messages.length = 0;
  save();
  show();
  say("New chat");
  $("prompt").focus();
});
$("open-settings").addEventListener("click", openSettings);
$("settings").addEventListener("close", closeSettings);
$("settings").addEventListener("click", (event) => {
  if (event.target === $("settings")) $("settings").close(); // outside the form: the backdrop
});
$("temperature").addEventListener("input", () => {
  settings.temperature = parseFloat($("temperature").value);
  showTemperature();
});
$("temperature-default").addEventListener("click", () => {
  settings.temperature = null;
  $("temperature").value = 1;
  showTemperature();
  $("temperature").focus(); // the button hides itself
});
for (const radio of document.getElementsByName("theme")) {
  radio.addEventListener("change", () => {
    settings.theme = radio.value;
    applyTheme();
  });
}
matchMedia("(prefers-color-scheme: dark)").addEventListener("change", applyTheme);
$("scroll").addEventListener("scroll", () => {
  $("latest").hidden = atEnd();
});
$("latest").addEventListener("click", toEnd);

applyTheme();
show();
toEnd();
offerSend();
connect();
