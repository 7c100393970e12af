import type { AdapterFormat } from "./method.js";

/** What stands before the names of tensors in the files of PEFT's tuners. */
export const tunerPrefix = "base_model.model.";

/**
 * The files of PEFT's tuners: each tensor under its path in the model, after `base_model.model.`. A method spreads it into its `files` and adds
 * `publish`, which gives the config's fields.
 */
export function tunerFormat(peft_type: string): Pick<AdapterFormat<object, unknown>, "peft_type" | "prefix" | "inert" | "key"> {
  return { peft_type, prefix: tunerPrefix, inert: ["fan_in_fan_out"], key: (path) => `${tunerPrefix}${path}` };
}
