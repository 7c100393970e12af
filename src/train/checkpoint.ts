import type { Tensor } from "../core/tensor.js";
import { f32 } from "../core/tensor.js";
import { CheckpointError } from "../errors.js";
import type { Files } from "../io/files.js";
import { isRecord, readJson } from "../io/json.js";
import { openSafetensors, writeSafetensors } from "../io/safetensors.js";
import type { Metrics } from "../tasks/task.js";
import type { AdamWState } from "./optimizer.js";

/** Where checkpoints are kept. */
export interface CheckpointStore {
  /** Writes a whole checkpoint or none, and returns its place. */
  save(step: number, files: Readonly<Record<string, Uint8Array>>): Promise<string>;
  /** The newest whole checkpoint. */
  latest(): Promise<Files | undefined>;
}

/** The last evaluation; loss null where there has been none. */
export interface Score {
  readonly loss: number | null;
  readonly metrics: Metrics;
}

/** The best evaluation so far. */
export interface Best {
  readonly step: number;
  readonly score: number;
  readonly loss: number;
  readonly metrics: Metrics;
  /** The parameters then, where early stopping may want them back. */
  readonly params: ReadonlyMap<string, Tensor<"float32">> | undefined;
}

/** All that a run needs to go on as if it had never stopped. Noise and the data's order follow from the seed and the step. */
export interface TrainState {
  /** Optimiser steps done. */
  readonly step: number;
  /** Seconds of training so far. */
  readonly seconds: number;
  readonly params: ReadonlyMap<string, Tensor<"float32">>;
  readonly optimizer: AdamWState;
  readonly score: Score;
  readonly best: Best | undefined;
  /** Evaluations since the best one. */
  readonly patience: number;
}

const stateFile = "trainer_state.json";
const optimizerFile = "optimizer.safetensors";
const paramsFile = "params.safetensors";
const bestFile = "best.safetensors";

/** The files of a state. `identity` says what run this is (options, data, base); resuming demands the same. */
export function writeState(state: TrainState, identity: Readonly<Record<string, unknown>>): Readonly<Record<string, Uint8Array>> {
  const { best } = state;
  const json = {
    step: state.step,
    seconds: state.seconds,
    patience: state.patience,
    optimizer_step: state.optimizer.step,
    score: state.score,
    best: best === undefined ? null : { step: best.step, score: best.score, loss: best.loss, metrics: best.metrics },
    identity,
  };
  const moments = (name: string, values: ReadonlyMap<string, Float32Array>): [string, Tensor<"float32">][] =>
    [...values].map(([path, data]) => [`${name}:${path}`, f32(data)]);
  return {
    [stateFile]: new TextEncoder().encode(`${JSON.stringify(json, null, 2)}\n`),
    [paramsFile]: writeSafetensors(state.params),
    [optimizerFile]: writeSafetensors([...moments("m", state.optimizer.m), ...moments("v", state.optimizer.v)]),
    ...(best?.params === undefined ? {} : { [bestFile]: writeSafetensors(best.params) }),
  };
}

/** Reads a state back. Throws CheckpointError when the run it belongs to was another one: each differing option is named. */
export async function readState(files: Files, identity: Readonly<Record<string, unknown>>): Promise<TrainState> {
  const json = await readJson(files, stateFile);
  if (!isRecord(json) || !isRecord(json.identity)) throw new CheckpointError(`${files.origin}/${stateFile} is not a checkpoint's state`);
  const changes = differences(json.identity, JSON.parse(JSON.stringify(identity)) as Record<string, unknown>);
  if (changes.length > 0) {
    throw new CheckpointError(`${files.origin} belongs to another run:\n  ${changes.join("\n  ")}`, {
      hint: "resume with the same options and data, or start afresh in another folder",
    });
  }
  const moments = new Map(await readAll(files, optimizerFile));
  const pick = (name: string): Map<string, Float32Array> =>
    new Map([...moments].flatMap(([key, { data }]) => (key.startsWith(`${name}:`) ? [[key.slice(name.length + 1), data] as const] : [])));
  const best = json.best as Omit<Best, "params"> | null;
  return {
    step: Number(json.step),
    seconds: Number(json.seconds),
    patience: Number(json.patience),
    params: new Map(await readAll(files, paramsFile)),
    optimizer: { step: Number(json.optimizer_step), m: pick("m"), v: pick("v") },
    score: json.score as Score,
    best:
      best === null
        ? undefined
        : { ...best, params: (await files.size(bestFile)) === undefined ? undefined : new Map(await readAll(files, bestFile)) },
  };
}

async function readAll(files: Files, name: string): Promise<[string, Tensor<"float32">][]> {
  const source = await openSafetensors(files, name);
  const all: [string, Tensor<"float32">][] = [];
  for (const key of source.tensors.keys()) all.push([key, await source.readFloat32(key)]);
  return all;
}

function differences(before: Readonly<Record<string, unknown>>, now: Readonly<Record<string, unknown>>, prefix = ""): readonly string[] {
  return [...new Set([...Object.keys(before), ...Object.keys(now)])].flatMap((key) => {
    const [a, b] = [before[key], now[key]];
    if (isRecord(a) && isRecord(b)) return differences(a, b, `${prefix}${key}.`);
    return JSON.stringify(a) === JSON.stringify(b) ? [] : [`${prefix}${key}: was ${JSON.stringify(a)}, now ${JSON.stringify(b)}`];
  });
}
