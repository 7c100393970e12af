// @ts-check
// What switching between adapters costs: the time of the first prediction after a switch, and the memory of many loaded adapters.
//   npm run build && node bench/switching.js MODEL [rounds] [adapters]
// Each round is two fresh processes, one for times and one for memory; the table shows medians of the rounds with the lowest and the highest.
import { execFileSync } from "node:child_process";
import { mkdtempSync, rmSync } from "node:fs";
import { availableParallelism, loadavg, tmpdir } from "node:os";
import { join } from "node:path";
import { setTimeout } from "node:timers/promises";
import { fileURLToPath } from "node:url";
import { pipeline, train } from "peft.js/node";
import { median } from "./report.js";

const sample = fileURLToPath(new URL("../examples/data/support-train.jsonl", import.meta.url));
const text = "Where is my parcel? It was to arrive yesterday.";
/** @type {Readonly<Record<string, { method: string, seed: number, set: Record<string, unknown> }>>} */
const recipes = {
  a: { method: "lora", seed: 0, set: { r: 8, target_modules: ["query", "value"] } },
  b: { method: "lora", seed: 1, set: { r: 8, target_modules: ["query", "value"] } },
  c: { method: "lora", seed: 0, set: { r: 16, target_modules: ["query", "value"] } },
};

const [model = "minilm", rounds = "5", count = "100", part, folder = ""] = process.argv.slice(2);
if (part === "times") console.log(JSON.stringify(await times()));
else if (part === "memory") console.log(JSON.stringify(await memory()));
else await main();

async function main() {
  const own = mkdtempSync(join(tmpdir(), "peft-switching-"));
  try {
    for (const [name, recipe] of Object.entries(recipes)) {
      for await (const _ of train({ model, data: sample, max_steps: 1, out: join(own, name), ...recipe })) {
        // the events of one step are of no interest
      }
    }
    /** @type {Map<string, number[]>} */
    const found = new Map();
    for (let round = 0; round < Number(rounds); round++) {
      for (const each of ["times", "memory"]) {
        const load = loadavg()[0] ?? 0;
        const printed = execFileSync(process.execPath, [fileURLToPath(import.meta.url), model, rounds, count, each, own], {
          encoding: "utf8",
        });
        for (const [name, value] of Object.entries({ ...JSON.parse(printed), "load of the machine before": load }))
          found.set(name, [...(found.get(name) ?? []), value]);
      }
    }
    console.log(`${availableParallelism()} cores, Node ${process.versions.node}, ${rounds} rounds, ${count} adapters`);
    for (const [name, values] of found) {
      const shown = [median(values), Math.min(...values), Math.max(...values)].map((value) => value.toFixed(2));
      console.log(`${name}: ${shown[0]} (${shown[1]} to ${shown[2]})`);
    }
  } finally {
    rmSync(own, { recursive: true });
  }
}

/** Milliseconds; of predictions the fastest of 40 (11 where a session is made), since whatever else runs on the machine only adds to them. */
async function times() {
  const adapters = Object.fromEntries(Object.keys(recipes).map((name) => [name, join(folder, name)]));
  const many = await pipeline({ model, adapters });
  const first = { a: await timed(() => many(text, { adapter: "a" })), c: await timed(() => many(text, { adapter: "c" })) };
  for (let i = 0; i < 20; i++) await many(text, { adapter: i % 2 === 0 ? "a" : "c" });
  /** @type {Record<"steady" | "equal" | "cached", number[]>} */
  const taken = { steady: [], equal: [], cached: [] };
  // In turns, so that what disturbs the machine disturbs all alike.
  for (let i = 0; i < 40; i++) {
    many.use("a");
    await many(text);
    taken.steady.push(await timed(() => many(text)));
    many.use("b");
    taken.equal.push(await timed(() => many(text)));
    many.use("c");
    taken.cached.push(await timed(() => many(text)));
  }
  const uses = 1e5;
  const use = await timed(async () => {
    for (let i = 0; i < uses; i++) many.use(i % 2 === 0 ? "a" : "b");
  });
  await many.dispose();

  const one = await pipeline({ model, adapters, sessions: 1 });
  const uncached = [];
  for (let i = 0; i < 12; i++) uncached.push(await timed(() => one(text, { adapter: i % 2 === 0 ? "a" : "c" })));
  await one.dispose();
  const [steady, equal, cached, made] = [taken.steady, taken.equal, taken.cached, uncached.slice(1)].map((each) => Math.min(...each));
  return {
    "first prediction of all, weights read, ms": first.a,
    "use() alone, µs": (use / uses) * 1000,
    "prediction without a switch, ms": steady,
    "first prediction after a switch to an adapter of equal structure, ms": equal,
    "first prediction after a switch to another structure, session cached, ms": cached,
    "first prediction after a switch to another structure, session to be made, ms": made,
  };
}

/** Megabytes (2^20) of the process, and milliseconds. */
async function memory() {
  const many = await pipeline({ model, adapters: { a: join(folder, "a") } });
  await many(text, { adapter: "a" });
  const base = await settled();
  const names = Array.from({ length: Number(count) }, (_, i) => `adapter-${i}`);
  const loads = [];
  for (const [i, name] of names.entries()) loads.push(await timed(() => many.load(name, join(folder, i % 2 === 0 ? "a" : "b"))));
  for (const adapter of names) await many(text, { adapter });
  const all = await settled();
  await many.load("other", join(folder, "c"));
  await many(text, { adapter: "other" });
  const other = await settled();
  await many.dispose();
  return {
    "base and one adapter, resident MB": base,
    [`base and ${count} more, each used once, resident MB`]: all,
    "for each adapter, MB": (all - base) / names.length,
    "for an adapter of another structure with its session, MB": other - all,
    "loading an adapter, ms": median(loads),
  };
}

/** Resident memory once both threads have had the time to collect what is garbage. */
async function settled() {
  await setTimeout(1000);
  return process.memoryUsage.rss() / 2 ** 20;
}

/** @param {() => Promise<unknown>} work */
async function timed(work) {
  const start = performance.now();
  await work();
  return performance.now() - start;
}
