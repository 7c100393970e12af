import type * as z from "zod";
import { ConfigError } from "../errors.js";

/** Reads a model's config.json by a schema. Throws ConfigError that lists all fields that do not fit. */
export function parseConfig<T>(model: string, schema: z.ZodType<T>, json: unknown): T {
  const result = schema.safeParse(json);
  if (result.success) return result.data;
  const faults = result.error.issues.map((issue) => `${issue.path.join(".") || "config"}: ${issue.message}`);
  throw new ConfigError(`config.json of this ${model} model does not fit:\n  ${faults.join("\n  ")}`);
}
