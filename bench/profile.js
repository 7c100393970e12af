/** Where a training step's time goes: by phase, by op, and by matrix product, with the speed that each product reaches when nothing else runs. */
import { mkdtemp, rm } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { Command } from "commander";
import { built } from "./built.js";
import { kernelEvents } from "./op-times.js";
import { speedsAlone } from "./products.js";

/** Steps that are left out, and those of which the fastest counts, at most: whatever else runs on the machine only adds to them. */
const [warmUp, most] = [3, 15];
/** Batches of which the one of middle size is taken. */
const looked = 50;

/**
 * @typedef {object} Profile
 * @property {string} name the case
 * @property {number} rows in the step
 * @property {number} tokens in the step, real ones
 * @property {Readonly<Record<string, number>>} phases milliseconds of a step that is profiled; what happens while another one runs is in brackets
 * @property {number} profiled milliseconds of that step, which profiling makes slower
 * @property {number} step milliseconds of a step without profiling
 * @property {readonly { op: string, forward: number, backward: number, calls: number }[]} ops milliseconds of a step, the largest first
 * @property {readonly ProductTime[]} products the largest first
 * @property {number} gigaflops floating-point operations (or those with 8-bit integers) of a step's products, in 10^9
 *
 * @typedef {import("./op-times.js").Product & { calls: number, milliseconds: number, reached: number, alone: number }} ProductTime
 *   calls and milliseconds in a step; GFLOP/s in the step, and of the product alone
 */

/**
 * Profiles one batch, that of middle size, repeated. The same matrix products are then timed alone, within the same minute.
 * @param {import("./rounds.js").Chosen} chosen
 * @param {{ threads: number, seed: number }} options
 * @returns {Promise<Profile>}
 */
export async function profile(chosen, { threads, seed }) {
  const { nodeRuntime } = /** @type {typeof import("../src/runtime/node.js")} */ (await built("runtime/node.js"));
  const folder = await mkdtemp(join(tmpdir(), "peft-profile-"));
  try {
    const plain = nodeRuntime({ threads });
    const timed = await steps(plain, chosen, chosen.data, seed);
    await plain.close();
    const watched = nodeRuntime({ threads, profile: join(folder, "step") });
    const { rows, tokens, ...slower } = await steps(watched, chosen, chosen.data, seed);
    await watched.close();
    const events = fastest((await kernelEvents(folder, "step")).slice(warmUp));
    const step = timed.run + timed.optimiser;
    return { name: chosen.name, rows, tokens, step, ...(await summary(events, slower, threads, folder)) };
  } finally {
    await rm(folder, { recursive: true, force: true });
  }
}

/**
 * Trains on one batch again and again, as the training loop does. Times in milliseconds; those of steps are the fastest's.
 * @param {import("../src/runtime/session.js").Runtime} runtime
 * @param {import("./rounds.js").Chosen} chosen
 * @param {string} data
 * @param {number} seed
 */
async function steps(runtime, chosen, data, seed) {
  const { addFlags, readFlags, readSettings } = /** @type {typeof import("../src/cli/flags.js")} */ (await built("cli/flags.js"));
  const { trainJobOptions } = /** @type {typeof import("../src/node/train-options.js")} */ (await built("node/train-options.js"));
  const { taskOfRows } = /** @type {typeof import("../src/node/train.js")} */ (await built("node/train.js"));
  const { loadModel } = /** @type {typeof import("../src/node/load-model.js")} */ (await built("node/load-model.js"));
  const { readRows } = /** @type {typeof import("../src/data/read-rows.js")} */ (await built("data/read-rows.js"));
  const { taskNamed } = /** @type {typeof import("../src/tasks/index.js")} */ (await built("tasks/index.js"));
  const { methodChoice } = /** @type {typeof import("../src/methods/index.js")} */ (await built("methods/index.js"));
  const { headToTrain } = /** @type {typeof import("../src/programs/adapter.js")} */ (await built("programs/adapter.js"));
  const adaptedModel = /** @type {typeof import("../src/programs/adapted-model.js")} */ (await built("programs/adapted-model.js"));
  const { initialParams } = /** @type {typeof import("../src/programs/initial-params.js")} */ (await built("programs/initial-params.js"));
  const { packingOf } = /** @type {typeof import("../src/programs/limits.js")} */ (await built("programs/limits.js"));
  const { loadProgram, paramsOf } = /** @type {typeof import("../src/programs/program.js")} */ (await built("programs/program.js"));
  const { planSteps, prepareData } = /** @type {typeof import("../src/train/data.js")} */ (await built("train/data.js"));
  const { AdamW, clipGradNorm } = /** @type {typeof import("../src/train/optimizer.js")} */ (await built("train/optimizer.js"));

  const flags = addFlags(new Command(), trainJobOptions.shape)
    .parse([...chosen.ours], { from: "user" })
    .opts();
  const { batch, maxLength, steps: asked } = chosen.sizes;
  const given = { ...(await readFlags(trainJobOptions.shape, flags)), data: join(data, "train.jsonl"), out: "" };
  const options = trainJobOptions.parse({ ...given, batch_size: batch, max_length: maxLength, seed });
  const { method, preset } = methodChoice(options.method);
  const config = method.config.parse({ ...preset, ...readSettings(options.set, method.config.shape) });

  const rows = await readRows(options.data);
  const task = options.task === null ? taskOfRows(rows) : taskNamed(options.task);
  const loaded = await loadModel(chosen.model, { runtime });
  const head = headToTrain(loaded, task, rows);
  const model = adaptedModel.withBaseDtype(loaded, head, options.base_dtype);
  const attachment = adaptedModel.attach(model, head, method, config, "user");
  const graph = adaptedModel.trainGraph(model, head, [attachment], options.dropout, options.recompute);
  const program = await loadProgram(model, graph, options.recompute ? "inference" : "training");
  const params = await initialParams(model, graph, seed);
  const trained = paramsOf(graph).flatMap(({ leaf }) => (leaf.trained ? [{ ...leaf, values: params.get(leaf.path)?.data ?? none }] : []));
  const optimizer = new AdamW(trained);

  const start = performance.now();
  const { examples, evalExamples } = prepareData(model, head, [attachment], rows, undefined, options);
  const tokenised = (performance.now() - start) / (examples.length + evalExamples.length);
  const plan = planSteps(head, packingOf(model, [attachment]), examples, { ...options, max_steps: looked });
  const collating = performance.now();
  const batches = Array.from({ length: looked }, (_, step) => plan.prepare(step)[0]).flatMap((each) => each ?? []);
  const collated = (performance.now() - collating) / looked;
  const chosenBatch = batches.toSorted((a, b) => a.tokens - b.tokens)[looked >> 1];
  if (chosenBatch === undefined) throw new Error("no batch");

  const [runs, updates] = [/** @type {number[]} */ ([]), /** @type {number[]} */ ([])];
  for (let step = 0; step < warmUp + Math.min(most, asked); step++) {
    const before = performance.now();
    const results = await program.run({ batch: chosenBatch.feeds, params, noise: [seed, step] });
    const between = performance.now();
    const grads = trained.map(({ path }) => /** @type {Float32Array} */ (results[`grad:${path}`]?.data));
    clipGradNorm(grads, options.max_grad_norm);
    optimizer.step(grads, 1e-4);
    if (step < warmUp) continue;
    runs.push(between - before);
    updates.push(performance.now() - between);
  }
  await program.dispose();
  return {
    ...{ rows: chosenBatch.texts, tokens: chosenBatch.tokens, tokenise: tokenised * chosenBatch.texts, collate: collated },
    ...{ run: Math.min(...runs), optimiser: Math.min(...updates) },
  };
}

const none = new Float32Array();

/**
 * The step whose kernels took the least time together.
 * @param {readonly (readonly import("./op-times.js").KernelEvent[])[]} runs
 */
function fastest(runs) {
  const time = (/** @type {typeof runs[number]} */ events) => events.reduce((sum, each) => sum + each.milliseconds, 0);
  return runs.toSorted((a, b) => time(a) - time(b))[0] ?? [];
}

/**
 * @param {readonly import("./op-times.js").KernelEvent[]} events the kernels of a step
 * @param {{ tokenise: number, collate: number, run: number, optimiser: number }} timed
 * @param {number} threads
 * @param {string} folder for the products' own profile
 * @returns {Promise<Omit<Profile, "name" | "rows" | "tokens" | "step">>}
 */
async function summary(events, timed, threads, folder) {
  /** @param {(event: import("./op-times.js").KernelEvent) => boolean} is */
  const total = (is) => events.filter(is).reduce((sum, each) => sum + each.milliseconds, 0);
  const ops = [...new Set(events.map(({ op }) => op))].map((op) => ({
    op,
    forward: total((each) => each.op === op && each.forward),
    backward: total((each) => each.op === op && !each.forward),
    calls: events.filter((each) => each.op === op).length,
  }));
  const forward = total((each) => each.forward);
  const backward = total((each) => !each.forward);
  /** @type {Map<string, import("./op-times.js").Product>} */
  const sizes = new Map();
  for (const { product } of events) if (product !== undefined) sizes.set(JSON.stringify(product), product);
  const products = [...sizes].map(([key, product]) => {
    const is = (/** @type {import("./op-times.js").KernelEvent} */ each) => JSON.stringify(each.product) === key;
    const [calls, milliseconds] = [events.filter(is).length, total(is)];
    return { ...product, calls, milliseconds, reached: (product.gigaflops * calls * 1000) / milliseconds };
  });
  const alone = await speedsAlone(products, threads, folder);
  return {
    phases: {
      "(tokenise, before the first step)": timed.tokenise,
      "(collate, while the step before runs)": timed.collate,
      forward,
      backward,
      "in the runtime, beside kernels": timed.run - forward - backward,
      "clip and optimiser": timed.optimiser,
    },
    profiled: timed.run + timed.optimiser,
    ops: ops.sort((a, b) => b.forward + b.backward - a.forward - a.backward),
    products: products.map((each, i) => ({ ...each, alone: alone[i] ?? Number.NaN })).sort((a, b) => b.milliseconds - a.milliseconds),
    gigaflops: products.reduce((sum, each) => sum + each.gigaflops * each.calls, 0),
  };
}
