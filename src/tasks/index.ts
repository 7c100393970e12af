import { named } from "../core/registry.js";
import { fillMask } from "./fill-mask.js";
import type { Task } from "./task.js";
import { textClassification } from "./text-classification.js";
import { textGeneration } from "./text-generation.js";
import { tokenClassification } from "./token-classification.js";

/** All tasks. */
export const tasks: readonly Task[] = [textClassification, tokenClassification, textGeneration, fillMask];

/** Tasks that rows show by their columns; the others take plain texts and must be named. */
export const labelledTasks: readonly Task[] = tasks.filter(({ columns }) => columns.labels.length > 0);

/** A task by the Hub's name for it. Throws ConfigError that lists the names there are. */
export function taskNamed(name: string): Task {
  return named(tasks, "task", name, (task) => task.name);
}

/** A task by PEFT's `task_type`. Throws ConfigError that lists the types there are. */
export function taskOfType(type: string): Task {
  return named(tasks, "task_type", type, (task) => task.peftTaskType ?? []);
}
