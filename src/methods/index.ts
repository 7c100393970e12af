import { named } from "../core/registry.js";
import { bitfit } from "./bitfit.js";
import { full } from "./full.js";
import { head } from "./head.js";
import { ia3 } from "./ia3.js";
import { lora } from "./lora.js";
import type { Method } from "./method.js";
import { pTuning } from "./p-tuning.js";
import { prefixTuning } from "./prefix-tuning.js";
import { promptTuning } from "./prompt-tuning.js";

/** All methods. */
export const methods: readonly Method[] = [lora, ia3, bitfit, prefixTuning, promptTuning, pTuning, head, full];

/** A method by the name that `--method` takes. Throws ConfigError that lists the names there are. */
export function methodNamed(name: string): Method {
  return named(methods, "method", name, (method) => method.name);
}

/** A method by the `peft_type` of a published file. Throws ConfigError that lists the types there are. */
export function methodOfType(type: string): Method {
  return named(methods, "peft_type", type, (method) => method.files.peft_type);
}
