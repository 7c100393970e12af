import { mkdir, mkdtemp, rm, writeFile } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterAll, beforeAll, describe, expect, it } from "vitest";
import { energyMeter } from "./meters.js";

let folder = "";
/** A folder of counters as Linux has it: two packages, a part of the first, and the whole platform. */
async function counters(first: number, second: number): Promise<void> {
  for (const [name, label, value] of [
    ["intel-rapl:0", "package-0", first],
    ["intel-rapl:1", "package-1", second],
    ["intel-rapl:0:0", "core", 5],
    ["intel-rapl:2", "psys", 7],
  ] as const) {
    await mkdir(join(folder, name), { recursive: true });
    await writeFile(join(folder, name, "name"), `${label}\n`);
    await writeFile(join(folder, name, "energy_uj"), `${value}\n`);
    await writeFile(join(folder, name, "max_energy_range_uj"), "1000000000\n");
  }
}

beforeAll(async () => {
  folder = await mkdtemp(join(tmpdir(), "powercap-"));
});
afterAll(() => rm(folder, { recursive: true }));

describe("energy", () => {
  it("is the packages' counters' difference, also where one starts anew", async () => {
    await counters(1_000_000, 999_000_000);
    const end = energyMeter({ powercap: folder, grid_factor: 360 });
    await counters(4_000_000, 2_000_000);
    const { joules, measured, how, co2_grams } = end();
    expect(joules).toBeCloseTo(3 + 3, 9); // 3 J, and 1 J up to the end with 2 J from the start
    expect(measured).toBe(true);
    expect(how).toContain("RAPL counters of 2 processor packages");
    expect(co2_grams).toBeCloseTo((6 / 3.6e6) * 360, 12);
  });

  it("is estimated from CPU time where there are no counters, and says so", () => {
    const end = energyMeter({ powercap: join(folder, "nowhere"), watts_per_core: 10 });
    for (const until = process.cpuUsage().user + 50_000; process.cpuUsage().user < until; );
    const { joules, measured, how } = end();
    expect(measured).toBe(false);
    expect(how).toMatch(/^estimated: [\d.]+ CPU seconds at 10 W a core/);
    expect(joules).toBeGreaterThan(0.45);
    expect(joules).toBeLessThan(20);
  });
});
