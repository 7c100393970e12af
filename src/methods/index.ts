import { named } from "../core/registry.js";
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

/** A method by its name. Throws ConfigError that lists the names there are. */
export function methodNamed(name: string): Method {
  return named(methods, "method", name, (method) => method.name);
}

/** A method and the config fields that its name sets. */
export interface MethodChoice {
  readonly method: Method;
  readonly preset: Readonly<Record<string, unknown>>;
}

/** What `--method` says: a method's name, or one of its presets'. Throws ConfigError that lists the names there are. */
export function methodChoice(name: string): MethodChoice {
  const choices = [...methods, fuse].flatMap((method) => [
    { name: method.name, method, preset: {} },
    ...Object.entries(method.presets ?? {}).map(([alias, preset]) => ({ name: alias, method, preset: { ...preset } })),
  ]);
  return named(choices, "method", name, (choice) => choice.name);
}

/** A method by the `peft_type` of a published file. Throws ConfigError that lists the types there are. */
export function methodOfType(type: string): PeftMethod {
  return named(methods.filter(isPeft), "peft_type", type, ({ files }) => files.peft_type);
}

/** A composition by the `type` in an adapter_setup.json. Throws ConfigError that lists the types there are. */
export function compositionOfType(type: string): Method {
  return named(compositions, "composition", type, ({ files }) => ("setup" in files ? files.setup : []));
}

/** Whether a method's adapters stand in Hugging Face PEFT's files. */
export function isPeft(method: Method): method is PeftMethod {
  return "peft_type" in method.files;
}
