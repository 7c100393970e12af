import { f16 } from "./f16.js";
import { nf4 } from "./nf4.js";
import { q4 } from "./q4.js";
import { q8 } from "./q8.js";
import type { WeightForm } from "./weight-form.js";

/** The forms in which frozen matrices may be stored, besides float32. A new one is a file beside this one and a line here. */
export const weightForms: readonly WeightForm[] = [f16, q8, q4, nf4];
