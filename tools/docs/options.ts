import { z } from "zod";
import { compositions, methods } from "../../src/methods/index.js";
import { trainJobOptions } from "../../src/node/train-options.js";

type Shape = Readonly<Record<string, z.ZodType>>;
type JsonSchema = z.core.JSONSchema.BaseSchema;

/** The option tables there are: what stands after `<!-- options:` in a page. */
const shapes: Readonly<Record<string, Shape>> = {
  train: trainJobOptions.shape,
  ...Object.fromEntries([...methods, ...compositions].map((method) => [method.name, method.config.shape])),
};

/**
 * A page with its option tables made anew: what stands between `<!-- options: NAME -->` and `<!-- end -->` is replaced by the table of that
 * schema. Throws for a name that is not there.
 */
export function withOptionTables(page: string): string {
  return page.replace(/(<!-- options: (\S+) -->\n)[\s\S]*?(<!-- end -->)/g, (_, start: string, name: string, end: string) => {
    const shape = shapes[name];
    if (shape === undefined) throw new Error(`there are no options of "${name}"; there are: ${Object.keys(shapes).join(", ")}`);
    return `${start}${optionTable(shape)}\n${end}`;
  });
}

/** One row for each option: name, values, default, meaning. */
function optionTable(shape: Shape): string {
  const rows = Object.entries(shape).map(([name, schema]) => {
    const fallback = schema.safeParse(undefined);
    const standard = fallback.success ? `\`${JSON.stringify(fallback.data)}\`` : "required";
    return `| \`${name}\` | ${valuesOf(z.toJSONSchema(schema, { io: "input" }))} | ${standard} | ${cell(schema.description ?? "")} |`;
  });
  return ["| option | values | default | meaning |", "|---|---|---|---|", ...rows].join("\n");
}

function valuesOf(schema: JsonSchema): string {
  const { enum: names, anyOf, items } = schema;
  const type: unknown = schema.type;
  if (Array.isArray(type)) return type.map((each) => valuesOf({ type: each })).join(" or ");
  if (names !== undefined) return names.map((name) => `\`${String(name)}\``).join(", ");
  if (anyOf !== undefined) return anyOf.map((each) => valuesOf(each as JsonSchema)).join(" or ");
  if (type === "array") return `list of ${plural(valuesOf(items as JsonSchema))}`;
  if (type === "object") return "names with values";
  if (type === "integer" || type === "number") return `${type === "integer" ? "whole number" : "number"}${rangeOf(schema)}`;
  return { string: "text", boolean: "true or false", null: "null" }[String(type)] ?? "any";
}

function rangeOf({ minimum, exclusiveMinimum, maximum, exclusiveMaximum }: JsonSchema): string {
  const low = exclusiveMinimum === undefined ? (minimum ?? Number.NEGATIVE_INFINITY) : Number(exclusiveMinimum);
  const high = exclusiveMaximum === undefined ? (maximum ?? Number.POSITIVE_INFINITY) : Number(exclusiveMaximum);
  const parts = [
    ...(low > Number.MIN_SAFE_INTEGER ? [exclusiveMinimum === undefined ? `≥ ${low}` : `> ${low}`] : []),
    ...(high < Number.MAX_SAFE_INTEGER ? [exclusiveMaximum === undefined ? `≤ ${high}` : `< ${high}`] : []),
  ];
  return parts.length === 0 ? "" : ` ${parts.join(", ")}`;
}

function plural(values: string): string {
  return values === "text" ? "texts" : values.replace("number", "numbers");
}

function cell(text: string): string {
  return text.replaceAll("|", "\\|");
}
