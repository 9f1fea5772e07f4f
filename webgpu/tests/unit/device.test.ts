import { afterEach, beforeEach, describe, expect, test, vi } from "vitest";
import { asPhone, GUARANTEED, profileFor } from "../../src/bundle/profile.ts";
import type { Adapter } from "../../src/plan/device.ts";
import type { Limits } from "../../src/plan/limits.ts";
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
    expect(profileFor(adapter, { ...computer, ...hints })).toBe(wanted);
  });

  test("of a device with small buffers, and of a browser that tells nothing", () => {
    expect(profileFor({ limits: GUARANTEED }, computer)).toBe("phone");
    expect(profileFor(adapter, {})).toBe("full");
  });

  test("of a phone keeps to what every device has, and to what this one has", () => {
    expect(asPhone(adapter)).toEqual({
      ...adapter,
      limits: { ...GUARANTEED, maxComputeWorkgroupSizeZ: 32 },
    });
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
