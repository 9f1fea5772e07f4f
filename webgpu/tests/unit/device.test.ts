import { afterEach, beforeEach, describe, expect, test, vi } from "vitest";
import { asPhone, GUARANTEED, profileFor } from "../../src/bundle/profile.ts";
import type { Adapter } from "../../src/plan/device.ts";
import type { Limits } from "../../src/plan/limits.ts";
import { DeviceWatch } from "../../src/plan/watch.ts";
import { Watchdog } from "../../src/worker/watchdog.ts";

describe("the profile", () => {
  const limits: Limits = {
    ...GUARANTEED,
    maxStorageBufferBindingSize: 1 << 30,
    maxComputeWorkgroupSizeZ: 32,
  };
  const adapter = { name: "a device", limits, fp16: true } as Adapter;
  const computer = { userAgent: "Mozilla/5.0 (X11; Linux x86_64)", deviceMemory: 8 };

  test.each([
    ["a computer", {}, "full"],
    ["a browser that says it is mobile", { userAgentData: { mobile: true } }, "phone"],
    ["one that says it is not", { userAgentData: { mobile: false }, userAgent: "Android" }, "full"],
    ["a phone that only tells its name", { userAgent: "Mozilla/5.0 (iPhone; CPU iPhone OS 26_0)" }, "phone"],
    ["little memory", { deviceMemory: 2 }, "phone"],
  ] as const)("of %s", (_, hints, wanted) => {
    expect(profileFor(adapter, 0, { ...computer, ...hints })).toBe(wanted);
  });

  test("of a tablet that calls itself a Macintosh is a phone's", () => {
    const apple = {
      userAgent: "Mozilla/5.0 (Macintosh; Intel Mac OS X 10_15_7) AppleWebKit/605.1.15 Safari",
    };
    expect(profileFor(adapter, 5, apple)).toBe("phone");
    expect(profileFor(adapter, 0, apple)).toBe("full");
  });

  test("of a device with small buffers, and of a browser that tells nothing", () => {
    expect(profileFor({ limits: GUARANTEED }, 0, computer)).toBe("phone");
    expect(profileFor(adapter, 10, {})).toBe("full");
  });

  test("of a phone keeps to what every device has, and to what this one has", () => {
    expect(asPhone(adapter)).toEqual({
      ...adapter,
      limits: { ...GUARANTEED, maxComputeWorkgroupSizeZ: 32 },
    });
  });
});

describe("a watched device", () => {
  class OutOfMemory extends Error {}
  beforeEach(() => void vi.stubGlobal("GPUOutOfMemoryError", OutOfMemory));
  afterEach(() => void vi.unstubAllGlobals());

  function watched() {
    const device = Object.assign(new EventTarget(), { lost: new Promise(() => undefined) });
    const watch = new DeviceWatch(device as unknown as GPUDevice, "a device", 512);
    const refuse = (error: Error) =>
      device.dispatchEvent(Object.assign(new Event("uncapturederror"), { error }));
    return { watch, refuse };
  }

  test.each([
    ["refuses a step", new Error("bad offset"), "device_lost", "bad offset"],
    ["has no memory left", new OutOfMemory("buffer"), "out_of_memory", "smaller context"],
  ])("that %s without being lost ends the engine, with advice", async (_, error, code, said) => {
    const { watch, refuse } = watched();
    refuse(error);
    refuse(new Error("and then another"));
    const failure = await watch.failed();
    expect(failure).toMatchObject({ code, details: { context: 512 } });
    expect(failure.message).toContain(said);
    expect(() => watch.throwIfFailed()).toThrow(failure);
  });

  test("whose memory cannot be read counts as lost", async () => {
    const { watch } = watched();
    const error = await watch.explain(new DOMException("mapping failed", "OperationError"));
    expect(error).toMatchObject({ code: "device_lost", details: { context: 512 } });
    expect(await watch.failed()).toBe(error);
  });
});

describe("a watched worker", () => {
  const ask = vi.fn();
  const bark = vi.fn();
  let dog: Watchdog;
  beforeEach(() => {
    vi.useFakeTimers();
    dog = new Watchdog(ask, bark);
  });
  afterEach(() => {
    vi.useRealTimers();
    vi.clearAllMocks();
  });

  test("that answers is left alone", () => {
    ask.mockImplementationOnce(() => dog.heard());
    dog.watch(3);
    for (let seconds = 0; seconds < 20; seconds += 1) {
      vi.advanceTimersByTime(1000);
      dog.heard();
    }
    expect(ask).toHaveBeenCalledTimes(20);
    expect(bark).not.toHaveBeenCalled();
  });

  test("that is silent for too long is told, once", () => {
    dog.watch(3);
    vi.advanceTimersByTime(2000);
    dog.watch(3); // another request does not begin the time anew
    vi.advanceTimersByTime(1999);
    expect(bark).not.toHaveBeenCalled();
    vi.advanceTimersByTime(60_000);
    expect(bark).toHaveBeenCalledTimes(1);
  });

  test("that rests may be silent", () => {
    dog.watch(3);
    vi.advanceTimersByTime(3000);
    dog.rest();
    vi.advanceTimersByTime(60_000);
    dog.watch(3);
    vi.advanceTimersByTime(3000);
    expect(bark).not.toHaveBeenCalled();
  });
});
