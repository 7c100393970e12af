import type { AdapterFormat } from "./method.js";

/**
 * The format of methods that train weights of the base model in place: each under the base model's own parameter name, as the checkpoint has
 * it without the backbone's prefix. No other tool reads these files; a merge gives an ordinary checkpoint.
 */
export function plainFormat<C extends Readonly<Record<string, unknown>>, P>(peft_type: string): AdapterFormat<C, P> {
  return {
    peft_type,
    prefix: "",
    inert: [],
    publish: (config) => ({ ...config }),
    key: (path) => path,
    bare: true,
  };
}
