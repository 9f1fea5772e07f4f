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
const dark = matchMedia("(prefers-color-scheme: dark)");

export interface SettingsHost {
  readonly settings: Settings;
  /** Tokens of the bundle's own context, the most that can be chosen. */
  readonly fullContext: number;
  readonly info: () => EngineInfo | null;
  /** After the dialog was closed. `reload`: the context is another one. */
  readonly onDone: (reload: boolean) => void;
  readonly onRemove: () => void;
}

export function wireSettings(host: SettingsHost): void {
  const { settings, fullContext } = host;
  const radios = [...document.querySelectorAll<HTMLInputElement>('input[name="theme"]')];
  let before = settings.context;

  byId("open-settings").addEventListener("click", () => {
    before = settings.context;
    system.value = settings.system;
    temperature.value = String(settings.temperature ?? 1);
    context.replaceChildren(...contexts(fullContext, settings.context).map(contextOption));
    context.value = String(settings.context ?? fullContext);
    for (const radio of radios) radio.checked = radio.value === settings.theme;
    showTemperature(settings);
    about(host.info());
    dialog.showModal();
  });
  dialog.addEventListener("close", () => {
    settings.system = system.value;
    const chosen = Number(context.value);
    settings.context = chosen === fullContext ? null : chosen;
    host.onDone(settings.context !== before);
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

function about(info: EngineInfo | null): void {
  const rows: [string, string][] = [];
  if (info) {
    const { weights, cache, step } = info.memory;
    rows.push(
      ["Device", info.software ? `${info.device} (no graphics processor: slow)` : info.device],
      ["Model", `${info.model}, ${info.quant}, computed in ${info.arithmetic}`],
      [
        "Memory",
        `${bytesText(weights)} weights, ${bytesText(cache)} conversation, ${bytesText(step)} working space`,
      ],
      [
        "Storage",
        info.stored ? "kept in this browser; works without a network" : "not kept: the browser refuses",
      ],
    );
  }
  byId("about").replaceChildren(
    ...rows.flatMap(([term, value]) => [make("dt", "", term), make("dd", "", value)]),
  );
}
