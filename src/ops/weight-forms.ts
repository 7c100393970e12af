import { q8 } from "./q8.js";
import type { WeightForm } from "./weight-form.js";

/** The forms in which frozen matrices may be stored, besides float32. A new one is a file beside this one and a line here. */
export const weightForms: readonly WeightForm[] = [q8];
