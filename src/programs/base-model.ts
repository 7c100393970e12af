import { feedName, type WeightLeaf } from "../core/graph.js";
import type { Feeds, Tensor } from "../core/tensor.js";
import { loadTokenizer, type Tokenizer } from "../data/tokenizer.js";
import { ModelError, WeightError } from "../errors.js";
import type { Files } from "../io/files.js";
import { readJson } from "../io/json.js";
import type { StoredDType, TensorSource } from "../io/tensor-source.js";
import { openWeights } from "../io/weights.js";
import { checkpointNames, type ModelFamily } from "../models/family.js";
import { familyOf } from "../models/index.js";
import type { Runtime } from "../runtime/session.js";
import { type BaseDtype, storedTensors } from "./base-dtype.js";

/** A base model, ready for any number of adapters. Holds no adapter itself. */
export interface BaseModel {
  /** What goes to `base_model_name_or_path`: a hub id, or a path as given. */
  readonly id: string;
  readonly revision: string | null;
  readonly files: Files;
  readonly family: ModelFamily;
  /** config.json as it stands, and as the family reads it. */
  readonly json: unknown;
  readonly config: unknown;
  readonly tokenizer: Tokenizer;
  readonly runtime: Runtime;
  /** The shape of a weight in the checkpoint, by its path in the model; undefined where the checkpoint lacks it. */
  shape(path: string): readonly number[] | undefined;
  /** How the checkpoint stores a weight; undefined where it lacks it. */
  dtype(path: string): StoredDType | undefined;
  /** Whether the checkpoint holds a weight as the float32 numbers that are read, so that reading makes no second copy. */
  isPlain(path: string): boolean;
  /** How programs store the frozen matrices of linear layers. */
  readonly baseDtype: BaseDtype;
  /** A weight by its path in the model. Throws WeightError when it is missing or its shape is not the expected one. */
  read(path: string, shape: readonly number[]): Promise<Tensor<"float32">>;
  /** Frozen weights as programs read them, by the names under which they are fed. Throws WeightError that lists all that do not fit. */
  stored(weights: readonly FrozenWeight[]): Promise<Feeds>;
  /** Sees to it that the runtime holds these frozen weights; each is read once. Throws as `stored` does. */
  keep(weights: readonly FrozenWeight[]): Promise<void>;
}

/** A frozen weight that a program reads, or a part of one, with its shape. */
export interface FrozenWeight {
  readonly leaf: WeightLeaf;
  readonly shape: readonly number[];
}

/** A model's tokens. */
export function vocabularyOf({ tokenizer, family, config }: BaseModel): { readonly tokenizer: Tokenizer; readonly size: number } {
  return { tokenizer, size: family.limits(config).vocabSize };
}

/** What a model is made from besides its files. */
export interface BaseModelOptions {
  readonly id: string;
  readonly revision?: string | null;
  readonly runtime: Runtime;
  /** The weights, where they are not in the files. */
  readonly weights?: TensorSource;
  /** How programs store the frozen matrices of linear layers; float32 by default. */
  readonly baseDtype?: BaseDtype;
}

/** Reads config.json, the tokenizer and the weights' headers. Throws FileError, ConfigError, ModelError or WeightError. */
export async function openBaseModel(
  files: Files,
  { id, revision = null, runtime: shared, weights, baseDtype = "f32" }: BaseModelOptions,
): Promise<BaseModel> {
  const runtime = shared.own();
  const json = await readJson(files, "config.json");
  const family = familyOf(json);
  const config = family.parse(json);
  const tokenizer = await loadTokenizer(files);
  const source = weights ?? (await openWeights(files));
  const kept = new Map<string, Promise<void>>();
  const nameOf = (path: string): string | undefined => checkpointNames(family, path).find((name) => source.tensors.has(name));
  const { vocabSize } = family.limits(config);
  if (tokenizer.vocabSize > vocabSize) {
    throw new ModelError(`the tokenizer has ${tokenizer.vocabSize} tokens, the model's embeddings have ${vocabSize}`, {
      hint: "are tokenizer.json and config.json of the same model?",
    });
  }
  const checked = (wanted: readonly FrozenWeight[]): readonly FrozenWeight[] => {
    checkShapes(source, new Map(wanted.map(({ leaf, shape }) => [leaf.path, leaf.part?.shape ?? shape])), nameOf);
    return wanted;
  };
  /** The wanted tensors of one weight, of which the float32 one is let go where only parts are wanted. */
  const partsOf = async (path: string, leaves: readonly WeightLeaf[]): Promise<Feeds> =>
    storedTensors(await source.readFloat32(nameOf(path)!), leaves);
  return {
    id,
    revision,
    files,
    family,
    json,
    config,
    tokenizer,
    runtime,
    baseDtype,
    shape: (path) => source.tensors.get(nameOf(path) ?? "")?.shape,
    dtype: (path) => source.tensors.get(nameOf(path) ?? "")?.dtype,
    isPlain(path) {
      const stored = source.tensors.get(nameOf(path) ?? "");
      return stored?.dtype === "F32" && stored.packed === undefined;
    },
    async read(path, shape) {
      checkShapes(source, new Map([[path, shape]]), nameOf);
      return source.readFloat32(nameOf(path)!);
    },
    async stored(weights) {
      const tensors: Record<string, Tensor> = {};
      for (const [path, leaves] of byPath(checked(weights))) Object.assign(tensors, await partsOf(path, leaves));
      return tensors;
    },
    async keep(weights) {
      const wanted = weights.filter(({ leaf }) => !kept.has(feedName(leaf)!));
      const groups = byPath(checked(wanted));
      const handOver = async (): Promise<void> => {
        let handing = Promise.resolve();
        for (const [path, leaves] of groups) {
          const [parts] = await Promise.all([partsOf(path, leaves), handing]); // one is read while the runtime takes the one before
          handing = runtime.keep(parts);
        }
        await handing;
      };
      const loading = wanted.length === 0 ? Promise.resolve() : handOver();
      for (const { leaf } of wanted) kept.set(feedName(leaf)!, loading);
      await Promise.all(weights.map(({ leaf }) => kept.get(feedName(leaf)!)));
    },
  };
}

function byPath(weights: readonly FrozenWeight[]): ReadonlyMap<string, readonly WeightLeaf[]> {
  const groups = new Map<string, WeightLeaf[]>();
  for (const { leaf } of weights) groups.set(leaf.path, [...(groups.get(leaf.path) ?? []), leaf]);
  return groups;
}

function checkShapes(
  source: TensorSource,
  weights: ReadonlyMap<string, readonly number[]>,
  nameOf: (path: string) => string | undefined,
): void {
  const faults: string[] = [];
  for (const [path, shape] of weights) {
    const name = nameOf(path);
    if (name === undefined) faults.push(`${path}: missing, expected [${shape}]`);
    else {
      const found = source.tensors.get(name)!.shape;
      if (found.length !== shape.length || found.some((size, i) => size !== shape[i]))
        faults.push(`${name}: [${found}], expected [${shape}]`);
    }
  }
  if (faults.length > 0) {
    throw new WeightError(
      `the checkpoint does not fit config.json; ${faults.length} weight${faults.length === 1 ? "" : "s"} differ:\n  ${faults.join("\n  ")}`,
      {
        hint: "are config.json and the weight files of the same model?",
      },
    );
  }
}
