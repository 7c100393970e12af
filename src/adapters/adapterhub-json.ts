import { isRecord } from "../io/json.js";

/** The version of the Python library whose files these are; it reads what says so without rewriting any field. */
export const hubVersion = "adapters.1.3.0";

/** What AdapterHub's configs say of the model. */
export interface HubModel {
  readonly hidden_size: number;
  readonly model_type: string;
  readonly model_name: string;
  /** Python's class of the model with its head. */
  readonly model_class: string;
}

/** JSON as Python's `json.dumps(indent=2, sort_keys=True)` writes it; `scaling` has its point, since Python takes a float there and no int. */
export function hubJson(value: unknown): Uint8Array<ArrayBuffer> {
  const text = JSON.stringify(sorted(value), null, 2).replace(/("scaling": -?\d+)(?=[,\n])/g, "$1.0");
  return new TextEncoder().encode(`${text}\n`);
}

function sorted(value: unknown): unknown {
  if (Array.isArray(value)) return value.map(sorted);
  if (!isRecord(value)) return value;
  const keys = Object.keys(value)
    .filter((key) => value[key] !== undefined)
    .sort();
  return Object.fromEntries(keys.map((key) => [key, sorted(value[key])]));
}

/**
 * transformers' classes with a head over the vocabulary which Python's `adapters` rebuilds: in them it does not undo invertible adapters before that
 * head, as in its own classes and as a part of a model of any other family.
 */
const notUndoing = /^(Bert|Roberta|XLMRoberta|DistilBert|GPT2|Llama|Mistral)(ForMaskedLM|ForCausalLM|LMHeadModel)$/;

/** The class with which an adapter was trained, if invertible adapters are not undone in it; undefined for others. `adapters` before 1.0 undid them in all. */
export function notUndoingClass({ model_class, version }: Readonly<Record<string, unknown>>): string | undefined {
  return typeof model_class === "string" && notUndoing.test(model_class) && String(version).startsWith("adapters.")
    ? model_class
    : undefined;
}

/** The same model in the library's own class, where its transformers' class would not undo invertible adapters. */
export function undoingModel(model: HubModel): HubModel {
  return { ...model, model_class: model.model_class.replace(notUndoing, "$1AdapterModel") };
}
