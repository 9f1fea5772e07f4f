/** The settings' dialog, and what it says about the model that is open. */

import type { EngineInfo } from "../../src/index.ts";
import { bytesText } from "../../src/units.ts";
import { byId, make } from "./dom.ts";
import type { Settings } from "./kept.ts";

const SMALLEST = 64;

const dialog = byId<HTMLDialogElement>("settings");
const system = byId<HTMLTextAreaElement>("system");
const temperature = byId<HTMLInputElement>("temperature");
const context = byId<HTMLSelectElement>("context");
const profile = byId<HTMLSelectElement>("profile");
const dark = matchMedia("(prefers-color-scheme: dark)");

export interface SettingsHost {
  readonly settings: Settings;
  /** Tokens of the bundle's own context, the most that can be chosen. */
  readonly fullContext: number;
  readonly info: () => EngineInfo | null;
  /** Whether the page itself opens without a network. */
  readonly pageKept: () => boolean;
  /** After the dialog was closed. `reload`: context or profile are others. */
  readonly onDone: (reload: boolean) => void;
  readonly onRemove: () => void;
}

export function wireSettings(host: SettingsHost): void {
  const { settings, fullContext } = host;
  const radios = [...document.querySelectorAll<HTMLInputElement>('input[name="theme"]')];
  let before = { ...settings };

  byId("open-settings").addEventListener("click", () => {
    before = { ...settings };
    system.value = settings.system;
    temperature.value = String(settings.temperature ?? 1);
    context.replaceChildren(
      automatic(host.info(), settings),
      ...contexts(fullContext, settings.context).map(contextOption),
    );
    context.value = String(settings.context ?? "");
    profile.value = settings.profile ?? "";
    for (const radio of radios) radio.checked = radio.value === settings.theme;
    showTemperature(settings);
    about(host.info(), host.pageKept());
    dialog.showModal();
  });
  dialog.addEventListener("close", () => {
    settings.system = system.value;
    settings.context = Number(context.value) || null;
    settings.profile = (profile.value || null) as Settings["profile"];
    host.onDone(settings.context !== before.context || settings.profile !== before.profile);
  });
  dialog.addEventListener("click", (event) => {
    if (event.target === dialog) dialog.close(); // outside the form: the backdrop
  });
  temperature.addEventListener("input", () => {
    settings.temperature = Number(temperature.value);
    showTemperature(settings);
  });
  byId("temperature-default").addEventListener("click", () => {
    settings.temperature = null;
    temperature.value = "1";
    showTemperature(settings);
    temperature.focus(); // the button hides itself
  });
  for (const radio of radios) {
    radio.addEventListener("change", () => {
      settings.theme = radio.value as Settings["theme"];
      applyTheme(settings);
    });
  }
  byId("remove").addEventListener("click", () => {
    dialog.close();
    host.onRemove();
  });
  dark.addEventListener("change", () => applyTheme(settings));
  applyTheme(settings);
}

function applyTheme({ theme }: Settings): void {
  const auto = dark.matches ? "dark" : "light";
  document.documentElement.dataset.theme = theme === "auto" ? auto : theme;
}

function showTemperature({ temperature: value }: Settings): void {
  byId("temperature-default").hidden = value === null;
  byId("temperature-shown").textContent = value === null ? "model’s default" : value.toFixed(2);
}

/** Leaves the context to the profile; says how much that is where it is known. */
function automatic(info: EngineInfo | null, settings: Settings): HTMLOptionElement {
  const known = info && settings.context === null ? `: ${info.context.toLocaleString("en")}` : "";
  const option = make("option", "", `Automatic${known}`);
  option.value = "";
  return option;
}

/** Powers of two up to the bundle's own, that one, and what is chosen now. */
function contexts(full: number, chosen: number | null): number[] {
  const found = new Set([full, Math.min(chosen ?? full, full)]);
  for (let one = SMALLEST; one < full; one *= 2) found.add(one);
  return [...found].sort((a, b) => a - b);
}

function contextOption(tokens: number): HTMLOptionElement {
  const option = make("option", "", tokens.toLocaleString("en"));
  option.value = String(tokens);
  return option;
}

function about(info: EngineInfo | null, pageKept: boolean): void {
  const rows: [string, string][] = [];
  if (info) {
    const { weights, cache, step } = info.memory;
    const refused = info.refused ? " (the graphics driver refuses the fp16 program)" : "";
    const kept = pageKept ? "kept in this browser; works without a network" : "kept in this browser";
    const share = info.profile === "phone" ? ", a phone’s share of its memory" : "";
    rows.push(
      ["Device", `${info.device}${info.software ? " (no graphics processor: slow)" : ""}${share}`],
      ["Model", `${info.model}, ${info.quant}, computed in ${info.arithmetic}${refused}`],
      [
        "Memory",
        `${bytesText(weights)} weights, ${bytesText(cache)} conversation, ${bytesText(step)} working space`,
      ],
      ["Storage", info.stored ? kept : "not kept: the browser refuses"],
    );
  }
  byId("about").replaceChildren(
    ...rows.flatMap(([term, value]) => [make("dt", "", term), make("dd", "", value)]),
  );
}
