import { feedName, type Leaf, topological, type Value } from "../core/graph.js";
import { GraphError } from "../errors.js";
import { sameShape, show } from "./shapes.js";

/**
 * Checks a whole graph: every type is what its op's shape rule gives, leaves that are fed under one name are one leaf, and each size symbol
 * can be read off some fed tensor. Throws GraphError that lists all faults.
 */
export function validate(outputs: Readonly<Record<string, Value>>): void {
  const faults: string[] = [];
  const order = topological(Object.values(outputs));
  const names = new Map<string, Leaf>();
  const known = new Set<string>();
  for (const value of order) {
    const { source } = value;
    if (source.kind === "op") {
      const types = source.op.infer(
        source.inputs.map((each) => each.type),
        source.attrs,
      );
      const type = types[value.index];
      if (type === undefined || type.dtype !== value.type.dtype || !sameShape(type.shape, value.shape)) {
        faults.push(
          `${source.op.name} output ${value.index} says ${show(value.type)}, its rule gives ${type === undefined ? "nothing" : show(type)}`,
        );
      }
    } else {
      const name = feedName(source);
      if (name === undefined) continue;
      if ((names.get(name) ?? source) !== source) faults.push(`two leaves are fed as "${name}"`);
      names.set(name, source);
      for (const dim of value.shape) if (typeof dim === "string" && /^\w+$/.test(dim)) known.add(dim);
    }
  }
  const symbols = new Set(
    order.flatMap((value) => value.shape.flatMap((dim) => (typeof dim === "string" ? (dim.match(/[A-Za-z_]\w*/g) ?? []) : []))),
  );
  for (const symbol of symbols) if (!known.has(symbol)) faults.push(`no fed tensor has the size "${symbol}" as an axis`);
  if (faults.length > 0) throw new GraphError(`the graph is not valid:\n  ${faults.join("\n  ")}`);
}

/** The graph as text, one line a value: `%3 = gemm(%0, weight:…) {"alpha":1} float32[T,384]`. */
export function print(outputs: Readonly<Record<string, Value>>): string {
  const names = new Map<Value, string>();
  const lines: string[] = [];
  for (const value of topological(Object.values(outputs))) {
    const { source } = value;
    if (source.kind === "op") {
      const name = `%${lines.length}`;
      names.set(value, name);
      const attrs = source.attrs === null ? "" : ` ${JSON.stringify(source.attrs)}`;
      const output = source.outputs.length > 1 ? `.${value.index}` : "";
      lines.push(
        `${name} = ${source.op.name}${output}(${source.inputs.map((each) => names.get(each)).join(", ")})${attrs} ${show(value.type)}`,
      );
    } else if (source.kind === "constant") {
      const { data } = source.value;
      names.set(value, data.length <= 4 ? `[${Array.from(data, String).join(",")}]` : `constant ${show(value.type)}`);
    } else {
      names.set(value, feedName(source)!);
    }
  }
  for (const [name, value] of Object.entries(outputs)) lines.push(`return ${name} = ${names.get(value)}`);
  return lines.join("\n");
}
