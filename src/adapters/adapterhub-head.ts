import type { Tensor } from "../core/tensor.js";
import { ConfigError } from "../errors.js";
import type { Files } from "../io/files.js";
import { isRecord, readJson } from "../io/json.js";
import { openTensors } from "../io/open-tensors.js";
import type { TensorSource } from "../io/tensor-source.js";
import { writeTensors } from "../io/write-tensors.js";
import { tasks } from "../tasks/index.js";
import { type HubModel, hubJson, hubVersion } from "./adapterhub-json.js";
import {
  type Fit,
  type HeadLayers,
  matchTensors,
  missingFault,
  noHead,
  type PublishedHead,
  readPlaces,
  type WantedParam,
} from "./published.js";

const configFile = "head_config.json";
const weightsFiles = ["model_head.safetensors", "pytorch_model_head.bin"];

/** A head in AdapterHub's files. */
export interface HubHead {
  readonly published: PublishedHead;
  readonly tensors: TensorSource | undefined;
  /** Finds the head's parameters. */
  fit(wanted: readonly WantedParam[], prefix: string): Fit;
}

/** No head: whatever is wanted of it is missing. */
export const absentHead: HubHead = {
  published: noHead,
  tensors: undefined,
  fit: (wanted) => ({ faults: wanted.map((param) => missingFault({ ...param, names: [param.path] })), read: async () => new Map() }),
};

/** Where the layers of a head that AdapterHub built stand in the model. */
export const hubHeadPath = "heads";

/** Whether a parameter belongs to a head: whatever is not at an adapter's place. */
export function isHeadParam(path: string): boolean {
  return !/\b(adapters|invertible_adapters|shared_parameters|adapter_fusion_layer)\./.test(path);
}

/** Reads the head beside an adapter, if there is one. Throws FileError, ConfigError or WeightError. */
export async function readHubHead(files: Files): Promise<HubHead> {
  if ((await files.size(configFile)) === undefined) return absentHead;
  const where = `${files.origin}/${configFile}`;
  const json = await readJson(files, configFile);
  if (!isRecord(json)) throw new ConfigError(`${where} holds no JSON object`);
  const source = await openTensors(files, weightsFiles);
  const config = isRecord(json.config) ? json.config : undefined;
  const name = typeof json.name === "string" ? json.name : undefined;
  const published = config === undefined ? staticHead(json, source) : builtHead(where, config);
  const tied = published.structure?.tokens === undefined ? undefined : lastWeight(source);
  return {
    published,
    tensors: source,
    fit(wanted, prefix) {
      const named = wanted.map((param) => ({ ...param, names: namesOf(param.path, name, prefix) }));
      const ignored = (stored: string): boolean => stored === tied || isOtherHead(stored, name);
      const { places, missing: lacking, faults } = matchTensors(source.tensors, named, ignored);
      return {
        faults: [...lacking.map(missingFault), ...faults],
        read: () => readPlaces(source, places),
      };
    },
  };
}

/** AdapterHub saves the heads whose names start with the head's own along with it. */
function isOtherHead(tensor: string, name: string | undefined): boolean {
  return name !== undefined && tensor.startsWith(`${hubHeadPath}.${name}`) && !tensor.startsWith(`${hubHeadPath}.${name}.`);
}

/** The name that a copy of the word embeddings has in a head that gives tokens: the weight of its last layer. */
function lastWeight({ tensors }: TensorSource): string | undefined {
  const indexOf = (stored: string): number => Number(/\.(\d+)\.\w+$/.exec(stored)?.[1]);
  const [last] = [...tensors.keys()].sort((a, b) => indexOf(b) - indexOf(a));
  return last?.replace(/\w+$/, "weight");
}

function namesOf(path: string, name: string | undefined, prefix: string): readonly string[] {
  if (name !== undefined && path.startsWith(`${hubHeadPath}.`)) return [path.replace(`${hubHeadPath}.`, `${hubHeadPath}.${name}.`)];
  return path.startsWith(`${prefix}.`) ? [path, path.slice(prefix.length + 1)] : [path];
}

/** The head of one of transformers' own classes: its layers are the model's. */
function staticHead(json: Readonly<Record<string, unknown>>, source: TensorSource): PublishedHead {
  const task = tasks.find(({ headClass }) => typeof json.model_class === "string" && json.model_class.endsWith(headClass));
  return {
    task: task?.name ?? null,
    labels: labelsOf(json.label2id),
    outputs: (output) => source.tensors.get(output)?.shape[0],
    structure: undefined,
  };
}

const headTasks: Readonly<Record<string, string>> = {
  classification: "text-classification",
  tagging: "token-classification",
  masked_lm: "fill-mask",
  causal_lm: "text-generation",
};

/** AdapterHub's heads over the vocabulary. */
const tokenHeads: readonly unknown[] = ["masked_lm", "causal_lm"];

/** A head that AdapterHub built from a config. Labels without names get those that AdapterHub gives them. */
function builtHead(where: string, config: Readonly<Record<string, unknown>>): PublishedHead {
  const task = headTasks[String(config.head_type)];
  if (task === undefined) {
    throw new ConfigError(`${where}: head_type "${String(config.head_type)}" is not supported`, {
      hint: `supported: ${Object.keys(headTasks).join(", ")}`,
    });
  }
  const { layers, activation_function: activation, dropout_prob: dropout } = config;
  const overTokens = tokenHeads.includes(config.head_type);
  const count = overTokens ? "vocab_size" : "num_labels";
  const outputs = config[count];
  if (!isCount(outputs) || !isCount(layers)) {
    throw new ConfigError(`${where}: ${count} and layers must be whole numbers above 0, not ${outputs} and ${layers}`);
  }
  const structure: HeadLayers = {
    layers,
    activation: typeof activation === "string" ? activation : null,
    bias: config.bias !== false,
    pooler: config.use_pooler === true,
    dropout: typeof dropout === "number" ? dropout : null,
    ...(overTokens ? { tokens: { norm: config.layer_norm === true } } : {}),
  };
  const unnamed = Array.from({ length: outputs }, (_, i) => `LABEL_${i}`);
  return {
    task,
    labels: labelsOf(config.label2id) ?? (structure.tokens === undefined ? unnamed : undefined),
    outputs: () => outputs,
    structure,
  };
}

function isCount(value: unknown): value is number {
  return Number.isInteger(value) && Number(value) > 0;
}

/** Label names in id order; undefined where the ids are not 0, 1, 2, … */
function labelsOf(label2id: unknown): readonly string[] | undefined {
  if (!isRecord(label2id)) return undefined;
  const pairs = Object.entries(label2id).sort(([, a], [, b]) => Number(a) - Number(b));
  return pairs.length > 0 && pairs.every(([, id], i) => Number(id) === i) ? pairs.map(([label]) => label) : undefined;
}

/** What a written head says of itself. */
export interface HubHeadContext {
  readonly model: HubModel;
  readonly labels: readonly string[] | undefined;
  readonly outputs: number;
  /** The layers of a head that AdapterHub built, which it keeps; undefined for the model's own. */
  readonly structure: HeadLayers | undefined;
  readonly headType: string;
  readonly name: string;
}

/** The head's config, and its weights in both formats: of one of transformers' classes, which AdapterHub's own models convert when they load it, or of one that it built. */
export function writeHubHead(
  params: ReadonlyMap<string, Tensor<"float32">>,
  context: HubHeadContext,
): Readonly<Record<string, Uint8Array>> {
  const { model, labels, outputs, structure, headType, name } = context;
  const label2id = Object.fromEntries((labels ?? Array.from({ length: outputs }, (_, i) => `LABEL_${i}`)).map((label, i) => [label, i]));
  const tensors = [...params].map(
    ([path, tensor]) => [structure === undefined ? path : path.replace(`${hubHeadPath}.`, `${hubHeadPath}.${name}.`), tensor] as const,
  );
  const json =
    structure === undefined
      ? { ...model, config: null, name: null, label2id, num_labels: outputs, version: hubVersion }
      : { ...model, config: builtConfig(structure, model, headType, outputs, label2id), name, version: hubVersion };
  return { [configFile]: hubJson(json), ...writeTensors(weightsFiles, tensors) };
}

function builtConfig(
  { layers, activation, bias, pooler, dropout, tokens }: HeadLayers,
  { hidden_size }: HubModel,
  headType: string,
  outputs: number,
  label2id: object,
): object {
  if (tokens !== undefined) {
    const sizes = { vocab_size: outputs, embedding_size: hidden_size, shift_labels: headType === "causal_lm", label2id: null };
    return { head_type: headType, layers, activation_function: activation, layer_norm: tokens.norm, bias, ...sizes };
  }
  const common = { head_type: headType, num_labels: outputs, layers, activation_function: activation, label2id, dropout_prob: dropout };
  return headType === "classification" ? { ...common, use_pooler: pooler, bias } : common;
}

/** AdapterHub's name of a task's heads. */
export function headTypeOf(task: string): string {
  return Object.entries(headTasks).find(([, name]) => name === task)?.[0] ?? task;
}
