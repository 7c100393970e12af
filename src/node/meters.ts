import { readdirSync, readFileSync } from "node:fs";
import { join } from "node:path";
import type { EnergyUse, Meters } from "../compare/cell.js";

/**
 * Watts of a core at work where the machine has no counters: the thermal design power that Green Algorithms takes for a core of a processor it
 * does not know (Lannelongue, Grealey and Inouye 2021, doi:10.1002/advs.202100707).
 */
export const defaultWattsPerCore = 12;
/** Grams of CO₂ equivalents for a kilowatt-hour: the world's mean, as Green Algorithms has it (IEA 2019). */
export const defaultGridFactor = 475;

/** How energy is counted. */
export interface EnergyOptions {
  readonly watts_per_core?: number | undefined;
  readonly grid_factor?: number | undefined;
  /** Where the counters stand; Linux's folder by default. */
  readonly powercap?: string | undefined;
}

/** Begins to count energy, and returns the function that ends it: by the processor's counters (RAPL) where they can be read, else from CPU time. */
export function energyMeter({
  watts_per_core: watts = defaultWattsPerCore,
  grid_factor: grid = defaultGridFactor,
  powercap = "/sys/class/powercap",
}: EnergyOptions = {}): () => EnergyUse {
  const counters = packageCounters(powercap);
  const cpuBefore = process.cpuUsage();
  const before = counters.map(({ read }) => read());
  return () => {
    const { user, system } = process.cpuUsage(cpuBefore);
    const cpuSeconds = (user + system) / 1e6;
    const joules =
      counters.length > 0
        ? counters.reduce((total, { read, range }, i) => total + difference(before[i]!, read(), range), 0) / 1e6
        : cpuSeconds * watts;
    return {
      joules,
      measured: counters.length > 0,
      how:
        counters.length > 0
          ? `RAPL counters of ${counters.length} processor package${counters.length === 1 ? "" : "s"}, everything that ran on them included`
          : `estimated: ${cpuSeconds.toFixed(1)} CPU seconds at ${watts} W a core (Green Algorithms' figure for an unknown processor unless set); memory and the rest of the machine not counted`,
      co2_grams: (joules / 3.6e6) * grid,
    };
  };
}

interface Counter {
  /** Microjoules. */
  read(): number;
  /** Where the counter starts anew. */
  readonly range: number;
}

/** The counters of whole processor packages that this process may read. */
function packageCounters(folder: string): readonly Counter[] {
  try {
    return readdirSync(folder)
      .filter((name) => /^intel-rapl:\d+$/.test(name))
      .filter((name) => readFileSync(join(folder, name, "name"), "utf8").startsWith("package"))
      .map((name) => {
        const read = (): number => Number(readFileSync(join(folder, name, "energy_uj"), "utf8"));
        read(); // only root may on many machines
        return { read, range: Number(readFileSync(join(folder, name, "max_energy_range_uj"), "utf8")) };
      });
  } catch {
    return [];
  }
}

function difference(before: number, after: number, range: number): number {
  return after >= before ? after - before : after - before + range;
}

/** Milliseconds between two looks at the process's memory. */
const memoryInterval = 50;

/** The machine's meters: seconds, energy, and the resident memory sampled 20 times a second. */
export function machineMeters(options: EnergyOptions = {}): Meters {
  return {
    now: () => performance.now() / 1000,
    energy: () => energyMeter(options),
    memory() {
      let peak = process.memoryUsage.rss();
      const look = (): void => {
        peak = Math.max(peak, process.memoryUsage.rss());
      };
      const timer = setInterval(look, memoryInterval);
      timer.unref();
      return () => {
        clearInterval(timer);
        look();
        return peak;
      };
    },
  };
}
