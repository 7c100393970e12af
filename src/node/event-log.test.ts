import { mkdtemp, readFile, rm, writeFile } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterEach, beforeEach, expect, it } from "vitest";
import type { TrainEvent } from "../train/events.js";
import { eventLog } from "./event-log.js";

let folder: string;
let path: string;
beforeEach(async () => {
  folder = await mkdtemp(join(tmpdir(), "peft-log-"));
  path = join(folder, "log.jsonl");
});
afterEach(() => rm(folder, { recursive: true, force: true }));

const start = (resumed_from: number | null): TrainEvent & { event: "start" } => ({
  ...{ event: "start", model: "tiny", task: "text-classification", method: "lora", train_rows: 1, eval_rows: 0, eval_source: "none" },
  ...{
    truncated_rows: 0,
    dropped_rows: 0,
    labels: null,
    trained_parameters: 1,
    total_parameters: 2,
    new_modules: [],
    learning_rate: 1,
    base_dtype: "f32",
    steps: 4,
  },
  ...{ steps_per_epoch: 2, resumed_from },
});
const checkpoint = (step: number): TrainEvent => ({ event: "checkpoint", step, checkpoint: `checkpoint-${step}` });
const read = async (): Promise<readonly unknown[]> =>
  (await readFile(path, "utf8"))
    .trimEnd()
    .split("\n")
    .map((line) => JSON.parse(line));

it("begins anew for a fresh run", async () => {
  await writeFile(path, "of an older run\n");
  const log = eventLog(path);
  await log.begin(start(null));
  await log.add(checkpoint(1));
  expect(await read()).toEqual([start(null), checkpoint(1)]);
});

it("is cut back to the checkpoint that a resumed run goes on from", async () => {
  const log = eventLog(path);
  await log.begin(start(null));
  for (const step of [1, 2, 3]) await log.add(checkpoint(step));
  await log.add({ event: "interrupted", step: 2, checkpoint: null });
  await writeFile(path, `${await readFile(path, "utf8")}{"event":"step","st`); // cut off by a kill
  const again = eventLog(path);
  await again.begin(start(2));
  expect(await read()).toEqual([start(null), checkpoint(1), checkpoint(2)]);
  await again.add(checkpoint(3));
  expect(await read()).toEqual([start(null), checkpoint(1), checkpoint(2), checkpoint(3)]);
});

it("may be gone when a run is resumed", async () => {
  const log = eventLog(path);
  await log.begin(start(2));
  await log.add(checkpoint(3));
  expect(await read()).toEqual([checkpoint(3)]);
});
