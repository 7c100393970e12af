/**
 * How well texts agree with JSON objects. `valid_json`: the share of texts that are JSON objects. `field_f1`: F1 over the fields of all objects
 * together, a field being the path to a value that is neither object nor list, with that value; places in a list don't count, and a text that is no
 * object has no fields. Undefined where not every wanted answer is a JSON object.
 */
export function jsonScores(
  texts: readonly string[],
  wanted: readonly string[],
): { readonly valid_json: number; readonly field_f1: number } | undefined {
  const objects = wanted.map(jsonObject);
  if (objects.includes(undefined)) return undefined;
  const got = texts.map(jsonObject);
  let hits = 0;
  let fields = 0;
  for (const [i, object] of objects.entries()) {
    const right = fieldsOf(object);
    const found = got[i] === undefined ? [] : fieldsOf(got[i]);
    fields += right.length + found.length;
    const left = new Map<string, number>();
    for (const field of right) left.set(field, (left.get(field) ?? 0) + 1);
    for (const field of found) {
      const count = left.get(field) ?? 0;
      if (count > 0) hits++;
      left.set(field, count - 1);
    }
  }
  return {
    valid_json: got.filter((object) => object !== undefined).length / texts.length,
    field_f1: fields === 0 ? 1 : (2 * hits) / fields,
  };
}

function jsonObject(text: string): object | undefined {
  try {
    const value: unknown = JSON.parse(text);
    return typeof value === "object" && value !== null && !Array.isArray(value) ? value : undefined;
  } catch {
    return undefined;
  }
}

/** Each value with the path to it; equal strings are equal fields. */
function fieldsOf(value: unknown, path: readonly string[] = []): readonly string[] {
  if (Array.isArray(value)) return value.flatMap((each) => fieldsOf(each, [...path, "[]"]));
  if (typeof value === "object" && value !== null) return Object.entries(value).flatMap(([key, each]) => fieldsOf(each, [...path, key]));
  return [JSON.stringify([path, value])];
}
