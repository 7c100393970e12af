import * as z from "zod";
import type { PeftMethod } from "./method.js";
import { plainFormat } from "./plain-format.js";
import { targetFields } from "./targets.js";

const config = z.strictObject({ modules_to_save: targetFields.modules_to_save });

/** Trains the task's head alone on the frozen model: the lower end of any comparison. */
export const head: PeftMethod<z.infer<typeof config>, null> = {
  name: "head",
  config,
  learningRate: 1e-2,
  plan: () => null,
  files: plainFormat("HEAD"),
};
