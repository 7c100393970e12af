import { named } from "../core/registry.js";
import { lora } from "./lora.js";
import type { Method } from "./method.js";

/** All methods. */
export const methods: readonly Method[] = [lora];

/** A method by the name that `--method` takes. Throws ConfigError that lists the names there are. */
export function methodNamed(name: string): Method {
  return named(methods, "method", name, (method) => method.name);
}

/** A method by the `peft_type` of a published file. Throws ConfigError that lists the types there are. */
export function methodOfType(type: string): Method {
  return named(methods, "peft_type", type, (method) => method.files.peft_type);
}
