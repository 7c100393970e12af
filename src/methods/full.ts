import * as z from "zod";
import type { PeftMethod } from "./method.js";
import { plainFormat } from "./plain-format.js";

const config = z.strictObject({});

/** Trains all weights: the upper end of any comparison, in parameters and memory. */
export const full: PeftMethod<z.infer<typeof config>, null> = {
  name: "full",
  config,
  learningRate: 5e-5,
  plan: () => null,
  trains: () => true,
  files: plainFormat("FULL"),
};
