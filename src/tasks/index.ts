import { named } from "../core/registry.js";
import type { Task } from "./task.js";
import { textClassification } from "./text-classification.js";
import { tokenClassification } from "./token-classification.js";

/** All tasks. */
export const tasks: readonly Task[] = [textClassification, tokenClassification];

/** A task by the Hub's name for it. Throws ConfigError that lists the names there are. */
export function taskNamed(name: string): Task {
  return named(tasks, "task", name, (task) => task.name);
}

/** A task by PEFT's `task_type`. Throws ConfigError that lists the types there are. */
export function taskOfType(type: string): Task {
  return named(tasks, "task_type", type, (task) => task.peftTaskType);
}
