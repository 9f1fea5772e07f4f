/** The box under the conversation: loading with its progress, and what went wrong with ways to go on. */

import type { EdgeLLMError, Progress } from "../../src/index.ts";
import { bytesText } from "../../src/units.ts";
import { button, byId, say } from "./dom.ts";

export interface Choice {
  readonly label: string;
  readonly act: () => void;
}

const panel = byId("panel");
const title = byId("panel-title");
const text = byId("panel-text");
const loading = byId("loading");
const progress = byId<HTMLProgressElement>("progress");
const amount = byId("amount");

export function panelShown(): boolean {
  return !panel.hidden;
}

export function hidePanel(): void {
  const held = panel.contains(document.activeElement);
  panel.hidden = true;
  if (held) byId("prompt").focus();
}

/** The first choice is the one to take. */
export function showPanel(heading: string, body: string, choices: readonly Choice[], wrong = false): void {
  const held = panel.contains(document.activeElement);
  title.textContent = heading;
  text.textContent = body;
  text.hidden = !body;
  loading.hidden = true;
  panel.classList.toggle("wrong", wrong);
  panel.hidden = false;
  byId("panel-buttons").replaceChildren(
    ...choices.map(({ label, act }, index) => button(label, index ? "quiet" : "main wide", act)),
  );
  if (held) title.focus(); // the button that was pressed is gone
  say(`${heading}. ${body}`);
  panel.scrollIntoView({ block: "end" });
}

export function showLoading(name: string, cancel: () => void): void {
  showPanel(`Loading ${name}`, "", [{ label: "Cancel", act: cancel }]);
  byId("panel-buttons").firstElementChild?.setAttribute("class", "quiet"); // nothing that one is to do
  loading.hidden = false;
  progress.removeAttribute("value");
  amount.textContent = "Looking at the device and the model…";
}

export function showProgress({ phase, loadedBytes, storedBytes, totalBytes }: Progress): void {
  if (phase === "check" || !totalBytes) return;
  progress.max = totalBytes;
  progress.value = loadedBytes;
  const of = `${bytesText(loadedBytes)} of ${bytesText(totalBytes)}`;
  const from = storedBytes && storedBytes >= loadedBytes / 2 ? ", from this browser’s storage" : "";
  amount.textContent = loadedBytes >= totalBytes ? `${of}: making it ready…` : `${of}${from}`;
}

/** What an error is called. */
export function headline(error: EdgeLLMError): string {
  switch (error.code) {
    case "no_webgpu":
      return "This browser cannot run the model";
    case "unsupported_device":
      return "This device cannot run the model as it is";
    case "out_of_memory":
      return "The device has no memory left";
    case "device_lost":
      return "The graphics device stopped";
    case "unresponsive":
      return "The model’s worker was ended";
    case "quota":
      return "The browser has too little room";
    case "network":
      return "The model cannot be downloaded";
    case "bundle":
      return "The model on this site is damaged";
    case "internal":
      return "The model has stopped";
    case "aborted":
      return "Loading was stopped";
    default:
      return "The model cannot be loaded";
  }
}
