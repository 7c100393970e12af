import { named } from "../core/registry.js";
import { ConfigError } from "../errors.js";
import { average } from "./average.js";
import { bitfit } from "./bitfit.js";
import { bottleneck } from "./bottleneck.js";
import { full } from "./full.js";
import { fuse } from "./fuse.js";
import { head } from "./head.js";
import { ia3 } from "./ia3.js";
import { lora } from "./lora.js";
import type { Method, PeftMethod } from "./method.js";
import { pTuning } from "./p-tuning.js";
import { prefixTuning } from "./prefix-tuning.js";
import { promptTuning } from "./prompt-tuning.js";
import { stack } from "./stack.js";
import { vera } from "./vera.js";

/** All methods that train something at a model's sites. */
export const methods: readonly Method[] = [lora, vera, bottleneck, ia3, bitfit, prefixTuning, promptTuning, pTuning, head, full];

/** All ways in which adapters can be used together. */
export const compositions: readonly Method[] = [stack, average, fuse];

/**
 * A method by its name; `own` are a program's own methods, beside those here. Throws ConfigError that lists the names there are, or says which
 * name two methods share.
 */
export function methodNamed(name: string, own: readonly PeftMethod[] = []): Method {
  return named(withOwn(own), "method", name, (method) => method.name);
}

/** The methods here and a program's own. Throws ConfigError where two share a name or a peft_type. */
function withOwn(own: readonly PeftMethod[]): readonly Method[] {
  const all = [...new Set([...methods, ...own])];
  const names = [...all, ...compositions].flatMap((method) => [method.name, ...Object.keys(method.presets ?? {})]);
  const types = all.filter(isPeft).map(({ files }) => files.peft_type);
  const twice = [...names.filter((name, i) => names.indexOf(name) !== i), ...types.filter((type, i) => types.indexOf(type) !== i)];
  if (twice.length === 0) return all;
  throw new ConfigError(`two methods are called ${twice.map((name) => `"${name}"`).join(", ")}`, {
    hint: "a method of your own needs a name, presets and a peft_type that no other method has",
  });
}

/** A method and the config fields that its name sets. */
export interface MethodChoice {
  readonly method: Method;
  readonly preset: Readonly<Record<string, unknown>>;
}

/** What `--method` says: a method's name, or one of its presets'. Throws as `methodNamed` does. */
export function methodChoice(name: string, own: readonly PeftMethod[] = []): MethodChoice {
  const choices = [...withOwn(own), fuse].flatMap((method) => [
    { name: method.name, method, preset: {} },
    ...Object.entries(method.presets ?? {}).map(([alias, preset]) => ({ name: alias, method, preset: { ...preset } })),
  ]);
  return named(choices, "method", name, (choice) => choice.name);
}

/** A method by the `peft_type` of a published file. Throws as `methodNamed` does. */
export function methodOfType(type: string, own: readonly PeftMethod[] = []): PeftMethod {
  return named(withOwn(own).filter(isPeft), "peft_type", type, ({ files }) => files.peft_type);
}

/** A composition by the `type` in an adapter_setup.json. Throws ConfigError that lists the types there are. */
export function compositionOfType(type: string): Method {
  return named(compositions, "composition", type, ({ files }) => ("setup" in files ? files.setup : []));
}

/** Whether a method's adapters stand in Hugging Face PEFT's files. */
export function isPeft(method: Method): method is PeftMethod {
  return "peft_type" in method.files;
}
