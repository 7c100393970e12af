import type { Tensor } from "../core/tensor.js";
import { AttachError } from "../errors.js";
import type { StoredTensor, TensorSource } from "../io/tensor-source.js";
import type { Method } from "../methods/method.js";

/** An adapter as its files say, before it meets a model. */
export interface PublishedAdapter {
  /** Where its files are, for messages. */
  readonly origin: string;
  readonly method: Method;
  readonly config: object;
  /** The base model's id as the files have it. */
  readonly base: string | null;
  readonly head: PublishedHead;
  /** Python's class in which it was trained, where that does not undo the adapter's invertible layers before a head over the vocabulary. */
  readonly notUndoneIn?: string | undefined;
  /** The adapters that a composition holds; none for others. */
  readonly children: readonly PublishedChild[];
  /** All tensors in its files, by their names there; a composition's start with their file's folder. */
  readonly tensors: ReadonlyMap<string, StoredTensor>;
  /** Finds the parameters of an attachment of this adapter in its files. */
  fit(wanted: readonly WantedParam[], place: FitPlace): Fit;
}

/** An adapter in a published composition. */
export interface PublishedChild {
  readonly name: string;
  readonly adapter: PublishedAdapter;
}

/** What an adapter's files say of its task. */
export interface PublishedHead {
  /** The Hub's name of the task; null where the files name none. */
  readonly task: string | null;
  /** Label names in id order, where the files have them. */
  readonly labels: readonly string[] | undefined;
  /** How many outputs the head in the files has, by the tensor that the model calls `output`; undefined where there is none. */
  outputs(output: string): number | undefined;
  /** A head that is built in another way than the model's own. */
  readonly structure: HeadLayers | undefined;
}

/** AdapterHub's heads: linear layers with activations between, on each row that the task reads. */
export interface HeadLayers {
  readonly layers: number;
  /** Between the layers; null for none. */
  readonly activation: string | null;
  /** Whether the last layer has a bias. */
  readonly bias: boolean;
  /** Whether the model's pooler comes first. */
  readonly pooler: boolean;
  readonly dropout: number | null;
  /** Where the last layer gives tokens: that masks are filled in, and whether each layer before it ends in a LayerNorm. No dropout then. */
  readonly tokens?: { readonly norm: boolean };
}

/** No head in the files. */
export const noHead: PublishedHead = { task: null, labels: undefined, outputs: () => undefined, structure: undefined };

/** A parameter that an adapter must bring. */
export interface WantedParam {
  readonly path: string;
  readonly shape: readonly number[];
}

/** What an adapter is fitted to. */
export interface FitPlace {
  /** What its method planned on the model. */
  readonly plan: unknown;
  /** Prefix of the backbone's paths (`bert`), which files may leave out. */
  readonly prefix: string;
  /** A weight of the base model by its path, also where it serves another layer too: its own path; undefined where there is none of that shape. */
  baseWeight(path: string, shape: readonly number[]): string | undefined;
  /** Other names of a weight in files. */
  aliases(path: string): readonly string[];
  /** The plans of the adapters it holds, in their order. */
  readonly children: readonly FitPlace[];
}

/** Where an adapter's parameters are in its files, and what is wrong with them. */
export interface Fit {
  /** One line for each tensor that is missing, of another shape, or not expected. */
  readonly faults: readonly string[];
  /** Weights of the base that the files hold too though nothing trains them, by path: in Python they take the base's place. */
  readonly copies?: ReadonlyMap<string, () => Promise<Tensor<"float32">>>;
  /** The parameters by path; only where there are no faults. Those that the format leaves out, or allows to be left out, may be missing. */
  read(): Promise<ReadonlyMap<string, Tensor<"float32">>>;
}

/** A parameter with the names under which files may hold it, the usual one first. */
export interface NamedParam extends WantedParam {
  readonly names: readonly string[];
}

/** Matches parameters with stored tensors by name and shape; stored ones that nobody wants are faults unless `ignored`. */
export function matchTensors(
  stored: ReadonlyMap<string, StoredTensor>,
  wanted: readonly NamedParam[],
  ignored: (name: string) => boolean,
): { readonly places: ReadonlyMap<string, string>; readonly missing: readonly NamedParam[]; readonly faults: readonly string[] } {
  const places = new Map<string, string>();
  const missing: NamedParam[] = [];
  const faults: string[] = [];
  for (const param of wanted) {
    const name = param.names.find((each) => stored.has(each));
    if (name === undefined) {
      missing.push(param);
      continue;
    }
    places.set(param.path, name);
    const { shape } = stored.get(name)!;
    if (!sameShape(shape, param.shape)) faults.push(`${name}: [${shape}], expected [${param.shape}]`);
  }
  const used = new Set(places.values());
  for (const [name, { shape }] of stored) if (!used.has(name) && !ignored(name)) faults.push(`${name}: [${shape}], not expected`);
  return { places, missing, faults };
}

/** The tensors that stand in a file under these names, by the parameters' paths. */
export async function readPlaces(
  source: TensorSource,
  places: Iterable<readonly [path: string, name: string]>,
): Promise<ReadonlyMap<string, Tensor<"float32">>> {
  const tensors = new Map<string, Tensor<"float32">>();
  for (const [path, name] of places) tensors.set(path, await source.readFloat32(name));
  return tensors;
}

/** The fault of a parameter that is nowhere. */
export function missingFault({ names: [name], shape }: NamedParam): string {
  return `${name}: missing, expected [${shape}]`;
}

/** Throws AttachError that lists what is wrong with a fit. */
export function checkFit({ origin, base }: PublishedAdapter, faults: readonly string[]): void {
  if (faults.length === 0) return;
  const shown = faults.slice(0, 20);
  const more = faults.length > shown.length ? `\n  … and ${faults.length - shown.length} more` : "";
  throw new AttachError(
    `the adapter ${origin} does not fit this model; ${faults.length} tensor${faults.length === 1 ? "" : "s"} differ:\n  ${shown.join("\n  ")}${more}`,
    { hint: base === null || base === "" ? "was it trained on another base model?" : `it was trained on ${base}` },
  );
}

function sameShape(a: readonly number[], b: readonly number[]): boolean {
  return a.length === b.length && a.every((size, i) => size === b[i]);
}
